"""Search: queries, their limits, the JSON contract, scanning a folder, building an index."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from cl2cm.data.scan import scan_folder
from cl2cm.errors import ManifestError, MediaError, QueryError, VectorIndexError
from cl2cm.index.update.build import build_index
from cl2cm.search.query import MAX_QUERY, Query
from cl2cm.search.result import SearchResult
from cl2cm.search.searcher import Searcher
from cl2cm.types import Example, Hit
from fixtures.names import NameModel, direction


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("chat", "dog", "猫", "zebra"):
        (folder / f"{name}.png").write_bytes(b"good")
    return folder


@pytest.fixture
def build(tmp_path, pictures):
    def build(examples=None, **settings):
        examples = scan_folder(pictures) if examples is None else examples
        model = settings.pop("model", NameModel())
        return build_index(model, examples, tmp_path / "index", run=tmp_path / "run", **settings)

    return build


@pytest.fixture
def searcher(build):
    return Searcher(NameModel(), build())


def test_the_right_picture_comes_first(searcher, pictures):
    for query in ("dog", "猫", "  chat\n"):
        hits = searcher.search(query, 2)
        assert len(hits) == 2
        assert hits[0].id == f"{query.strip()}.png"
        assert hits[0].path == str(pictures / hits[0].id)
        assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert hits[0].score > hits[1].score


def test_k_beyond_the_index_gives_all(searcher):
    assert len(searcher.search("dog", 1000)) == 4


@pytest.mark.parametrize("k", [0, -3, 1001])
def test_refuses_k_out_of_range(searcher, k):
    with pytest.raises(QueryError, match="1 to 1,000"):
        searcher.search("dog", k)
    with pytest.raises(QueryError, match="1 to 1,000"):
        searcher.similar("dog.png", k)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("", "some words"),
        (" \t\n\u3000", "some words"),
        ("x" * (MAX_QUERY + 1), "2,000 characters, found 2,001"),
        ("a\udc80b", "valid Unicode"),
    ],
)
def test_refuses_a_query_that_cannot_be_answered(searcher, query, words):
    with pytest.raises(QueryError, match=words):
        searcher.search(query)


def test_the_longest_query_is_answered(searcher):
    assert searcher.search("  " + "x" * MAX_QUERY)


def test_json_is_the_contract(monkeypatch):
    monkeypatch.setattr("cl2cm.search.result.identify", lambda text: {"q": "de"}[text])
    hits = (Hit("a", 0.25, "/a.mp4", 1.5, 2.0, captions={"en": ("x",)}), Hit("b", -0.5, "/b.png"))
    result = SearchResult(
        Query("q", ("w",), offset=3), hits, (0.75, 0.123456), ((), (hits[0],)), True,
        encode_ms=1.23456, search_ms=0.5, total=12,
    )  # fmt: skip
    assert json.loads(json.dumps(result.to_json())) == {
        "query": "q -w",
        "language": "de",
        "hits": [
            {"id": "a", "score": 0.25, "path": "/a.mp4", "start": 1.5, "end": 2.0, "match": 0.75},
            {"id": "b", "score": -0.5, "path": "/b.png", "start": None, "end": None,
             "match": 0.1235, "folded": ["a"]},
        ],
        "offset": 3,
        "more": True,
        "total": 12,
        "ms": {"encode": 1.235, "search": 0.5},
    }  # fmt: skip


def test_timed_search_measures_both_parts(searcher):
    result = searcher.search_timed(" dog ", 1)
    assert result.query == "dog"
    assert result.encode_ms > 0
    assert result.search_ms > 0
    assert list(result.hits) == searcher.search("dog", 1)


def test_more_like_an_item_leaves_it_out(searcher):
    assert "dog.png" not in [hit.id for hit in searcher.similar("dog.png", 1000)]
    assert len(searcher.similar("dog.png", 2)) == 2
    assert len(searcher.similar("dog.png", 1000)) == 3
    with pytest.raises(QueryError, match="no such id"):
        searcher.similar("wolf.png")


def test_more_like_a_picture(searcher, pictures):
    assert searcher.similar(pictures / "dog.png", 1)[0].id == "dog.png"


def test_pages_are_the_parts_of_one_list(searcher):
    whole = searcher.search("dog", 4)
    for offset in range(4):
        result = searcher.search_timed(Query("dog", k=2, offset=offset))
        assert list(result.hits) == whole[offset : offset + 2]
        assert result.more == (offset < 2)
    assert searcher.search(Query("dog", k=2, offset=50)) == []
    with pytest.raises(QueryError, match="offset"):
        searcher.search(Query("dog", offset=10_000))
    with pytest.raises(QueryError, match="offset"):
        searcher.search(Query("dog", offset=-1))


def test_words_and_a_picture_together(searcher, pictures):
    for like in ("chat.png", pictures / "chat.png", direction("chat")):
        hits = searcher.search(Query("dog", like=like, k=4))
        rest = {"dog.png"} if isinstance(like, str) else {"dog.png", "chat.png"}
        assert {hit.id for hit in hits[: len(rest)]} == rest
    assert searcher.search(Query("dog", like=direction("chat"), weight=1))[0].id == "chat.png"
    assert searcher.search(Query("dog", like=direction("chat"), weight=0))[0].id == "dog.png"
    with pytest.raises(QueryError, match="weight"):
        searcher.search(Query("dog", like="chat.png", weight=float("nan")))


def test_an_unwanted_term_counts_against_a_hit(searcher):
    plain = {hit.id: hit.score for hit in searcher.search("dog", 4)}
    without = {hit.id: hit.score for hit in searcher.search(Query("dog", ("zebra",), k=4))}
    assert without["dog.png"] == max(without.values())
    assert without["zebra.png"] == min(without.values())
    assert without["zebra.png"] < plain["zebra.png"]
    with pytest.raises(QueryError, match="cancel out"):
        searcher.search(Query("dog", ("dog", "dog")))


def test_a_text_alone_is_searched_by_its_own_vector_bit_for_bit(searcher):
    (expected,) = searcher.index.search(direction("dog")[None], 3, model="name-model")
    assert searcher.search("dog", 3) == expected
    (together, _), _ = searcher.search_texts(["dog", "chat"], Query(k=3))
    assert together == expected


@pytest.mark.parametrize(("name", "value"), [("fingerprint", "other"), ("dim", 32)])
def test_refuses_an_index_of_another_model(build, name, value):
    model = NameModel()
    index = build()
    setattr(model, name, value)
    with pytest.raises(VectorIndexError, match="search with the run"):
        Searcher(model, index)


def test_queries_are_encoded_one_at_a_time(searcher):
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(searcher.search("dog", 1)[0].id))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["dog.png"] * 16


def test_build_encodes_in_batches_and_reports(build):
    model = NameModel()
    done = []
    build(model=model, batch_size=3, progress=done.append)
    assert model.batches == [3, 1]
    assert done == [3, 1]


def test_build_takes_vectors_that_are_known(build):
    model = NameModel()
    examples = [
        Example("a", "test", features="a", captions={"de": ("ein Hund",)}),
        Example("b", "test", video=Path("/films/b.mp4"), start=1.0, end=2.5),
    ]
    index = build(examples, model=model, vectors=np.stack([direction("a"), direction("b")]))
    assert model.batches == []
    first, second = (Searcher(model, index).search(text, 1)[0] for text in "ab")
    assert (first.id, first.path, first.captions) == ("a", "", {"de": ("ein Hund",)})
    assert (second.path, second.start, second.end) == ("/films/b.mp4", 1.0, 2.5)


def test_a_bad_picture_ends_the_build(build, pictures, tmp_path):
    (pictures / "crooked.png").write_bytes(b"bad")
    with pytest.raises(MediaError, match=r"crooked\.png"):
        build()
    assert not (tmp_path / "index").exists()


def test_bad_pictures_are_listed_and_left_out_when_asked(build, pictures):
    (pictures / "crooked.png").write_bytes(b"bad")
    (pictures / os.fsdecode(b"\xff.png")).write_bytes(b"good")
    bad = []
    index = build(on_skip=lambda name, error: bad.append((name, str(error))))
    assert len(index) == 4
    assert index.item_by_id("zebra.png").id == "zebra.png"
    assert [name for name, _ in bad] == ["crooked.png", "\udcff.png"]
    assert "rubbish" in bad[0][1]
    assert "rename the file" in bad[1][1]


def test_only_bad_pictures_make_no_index(build, pictures, tmp_path):
    for path in pictures.iterdir():
        path.write_bytes(b"bad")
    with pytest.raises(VectorIndexError, match="at least one vector"):
        build(on_skip=lambda *_: None)
    assert not (tmp_path / "index").exists()


def test_build_refuses_before_the_work(build, pictures, tmp_path):
    model = NameModel()
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "thesis.tex").touch()
    with pytest.raises(VectorIndexError, match="a folder of other things"):
        build(model=model)
    twice = [Example("a", "x", image=pictures / "dog.png")] * 2
    with pytest.raises(ManifestError, match="twice"):
        build(twice, model=model)
    assert model.batches == []


def test_build_refuses_what_only_vectors_can_give(build):
    with pytest.raises(MediaError, match="features only"):
        build([Example("a", "x", features="a")])


def test_the_language_of_a_query_is_looked_at_only_if_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("cl2cm.search.result.identify", asked.append)
    result = SearchResult(Query("q"), (), (), (), False, encode_ms=1, search_ms=1)
    assert not asked
    assert result.language is None
    assert asked == ["q"]
