"""Thousands of queries from a file: the same hits as one by one, and nothing read wrongly."""

import json

import numpy as np
import pytest

from cl2cm.cli.hit_lines import answer_lines
from cl2cm.errors import QueryError
from cl2cm.index import Index
from cl2cm.search.batch import (
    AT_ONCE,
    BatchAnswer,
    BatchQuery,
    answers_json,
    read_queries,
    search_all,
    write_trec,
)
from cl2cm.search.query import Query
from cl2cm.search.searcher import Searcher
from cl2cm.types import Hit, Item
from fixtures.names import NameModel


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    vectors = np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = [Item(f"item {i}", "") for i in range(60)]
    index = Index.create(folder / "index", vectors, items, model="name-model", run=folder)
    return Searcher(NameModel(), index)


def test_a_batch_finds_what_each_query_finds_alone(searcher):
    queries = [BatchQuery(str(i), f"query -{i}") for i in range(AT_ONCE + 44)]
    done = []
    answers = search_all(searcher, queries, Query(k=5, offset=2), progress=done.append)
    assert done == [AT_ONCE, 44]
    for answer in answers[::37]:
        alone = searcher.search_timed(Query(answer.asked.text, k=5, offset=2))
        assert list(alone.hits) == answer.hits
        assert answer.matches == pytest.approx(list(alone.matches))
    value = json.loads(json.dumps(answers_json(answers, 0.0)))
    assert len(value["queries"]) == len(queries)
    assert list(value["queries"][0]["hits"][0]) == ["id", "score", "match"]


def test_a_run_is_written_as_trec_reads_it(searcher, tmp_path):
    answers = search_all(searcher, [BatchQuery("q1", "a"), BatchQuery("q2", "b")], Query(k=3))
    write_trec(tmp_path / "run.trec", answers)
    lines = [line.split(" ") for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [len(line) for line in lines] == [6] * 6
    assert [line[3] for line in lines] == ["1", "2", "3"] * 2
    assert lines[0][:3] == ["q1", "Q0", answers[0].hits[0].id.replace(" ", "_")]


def test_a_file_of_queries(tmp_path):
    path = tmp_path / "queries.txt"
    path.write_bytes("a dog\n\nde-1\tein Hund\r\n  \u72d7  \n".encode())
    assert read_queries(path) == [
        BatchQuery("1", "a dog"),
        BatchQuery("de-1", "ein Hund"),
        BatchQuery("4", "狗"),
    ]
    path.write_bytes("\ufeffq1\ta\u2028b\r\n".encode())
    assert read_queries(path) == [BatchQuery("q1", "a\u2028b")]


@pytest.mark.parametrize("numbers", [{"k": 0}, {"k": 1001}, {"offset": -1}, {"offset": 9_995}])
def test_numbers_out_of_range_are_refused(searcher, numbers):
    with pytest.raises(QueryError, match="a number of hits"):
        search_all(searcher, [BatchQuery("1", "a")], Query(**numbers))


def test_names_with_line_ends_break_neither_a_run_nor_a_terminal(tmp_path):
    hit = Hit("a\nb\tc \x1b[31m", 0.5, "p\x1b.png")
    write_trec(tmp_path / "run.trec", [BatchAnswer(BatchQuery("q", "x"), [hit], [0.5])])
    assert (tmp_path / "run.trec").read_text() == "q Q0 a_b_c__[31m 1 0.500000 cl2cm\n"
    (line,) = answer_lines([BatchAnswer(BatchQuery("q", "x"), [hit], [0.5])])
    assert "\x1b" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"), (b"\xff\xfe", "another encoding"), (b"\n \n", "none"),
        (b"a\tb\na\tc\n", "queries.txt:2"), (b"\tb\n", "before the tab"),
        (b"a b\tc\n", "without blanks"), (b"a\t \n", "some words"),
        (b"x" * 2001, "queries.txt:1"), (b"1\tx\ny\nz\n2\tx", None),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_its_line(tmp_path, content, words):
    path = tmp_path / "queries.txt"
    if content is not None:
        path.write_bytes(content)
    if words is None:
        with pytest.raises(QueryError, match="a unique id"):
            read_queries(path)
        return
    with pytest.raises(QueryError, match=words):
        read_queries(path)
