"""Evaluation, the command and the service give one answer: the same hits in the same order."""

import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from cl2cm.cli import app as cli
from cl2cm.data.manifest import read_manifest
from cl2cm.data.queries import caption_queries
from cl2cm.evaluation.ranked_lists import Measured
from cl2cm.evaluation.trec import trec_lines
from cl2cm.index import Index
from cl2cm.model.checkpoint import load
from cl2cm.search.searcher import Searcher
from cl2cm.serve import create_app
from cl2cm.types import Item

K = 10


@pytest.fixture(scope="module")
def asked(trained, small, tmp_path_factory):
    """Captions of the test split, their items ranked as evaluation ranks them, and an index."""
    model = load(trained)
    examples = [e for e in read_manifest(small.manifest) if e.split == "test"]
    queries = caption_queries(examples, "xx")
    vision = model.encode_examples(queries.gallery)
    text = model.encode_text(queries.texts)
    ranked: dict[str, list[str]] = {}
    measured = Measured("xx", queries, text, vision)
    for lines, _ in trec_lines(measured, "text_to_vision", depth=K):
        ranked[lines[0].split(" ")[0]] = [line.split(" ")[2] for line in lines]
    folder = tmp_path_factory.mktemp("hits")
    items = [Item(e.id, str(e.image), captions=e.captions) for e in queries.gallery]
    Index.create(folder / "index", vision, items, model=model.fingerprint, run=trained).close()
    return model, dict(zip(queries.texts, ranked.values(), strict=True)), folder


def test_the_service(asked):
    model, ranked, folder = asked
    client = TestClient(create_app(Searcher(model, Index.open(folder / "index"))))
    for text, ids in ranked.items():
        for path in ("/api/v1/search", "/api/search"):
            value = client.get(path, params={"q": text, "k": K}).json()
            assert [hit["id"] for hit in value["hits"]] == ids


def test_the_command(asked, capsys, tmp_path):
    _, ranked, folder = asked
    text, ids = next(iter(ranked.items()))
    assert cli.run(["search", str(folder / "index"), text, "-k", str(K), "--json"]) == 0
    assert [hit["id"] for hit in json.loads(capsys.readouterr().out)["hits"]] == ids
    (tmp_path / "queries.txt").write_text("\n".join(ranked))
    command = ["search", str(folder / "index"), "--queries", str(tmp_path / "queries.txt")]
    command += ["-k", str(K), "--json", "--trec", str(tmp_path / "run.trec")]
    assert cli.run(command) == 0
    answers = json.loads(capsys.readouterr().out)["queries"]
    assert [[hit["id"] for hit in answer["hits"]] for answer in answers] == list(ranked.values())
    items = [line.split(" ")[2] for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert items == [item for ids in ranked.values() for item in ids]


def test_a_rerun_gives_the_same_bits(asked):
    model, ranked, folder = asked
    searcher = Searcher(model, Index.open(folder / "index"))
    texts = list(ranked)[:5]
    from cl2cm.search.query import Query

    together = searcher.search_texts(texts, Query(k=K))
    again = searcher.search_texts(texts, Query(k=K))
    for (hits, matches), (hits_again, matches_again) in zip(together, again, strict=True):
        assert hits == hits_again
        np.testing.assert_array_equal(matches, matches_again)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "some words"), (["--", "-x"], "exclude"), (["a", "--weight", "2"], "0 to 1"),
        (["a", "--offset", "-1"], "offset"), (["a", "--media", "sound"], "film"),
        (["a", "--like", "nothing"], "no such id"), (["a", "--since", "soon"], "a day"),
        (["a", "--picture", "/no/where.png"], "no such file"), (["a", "--trec", "t"], "--queries"),
        (["a", "--queries", "q"], "both"), (["--fold", "--queries", "q"], "both"),
        (["--like", "x", "--picture", "y"], "one of them"), (["a", "--folder", "\udcff"], "folder"),
        (["--queries", "q", "--offset", "-3"], "offset"), (["--queries", "/no/where"], "no such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(asked, capsys, options, words):
    *_, folder = asked
    assert cli.run(["search", str(folder / "index"), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err.splitlines()[-1]
