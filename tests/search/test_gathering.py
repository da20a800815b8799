"""Hits by name, by date, and from a smallest match on; counts that respect filters."""

import json
import os

import pytest

from cl2cm.data.scan import scan_folder
from cl2cm.errors import QueryError
from cl2cm.index import Filter
from cl2cm.index.update.build import build_index
from cl2cm.search.match import FITS
from cl2cm.search.query import Query
from cl2cm.search.searcher import Searcher
from fixtures.names import NameModel

DAY = 86_400
FILES = ("2024/Beach/dog.png", "2024/Übung/chat.png", "2023/50%_off.png", "zebra.png")


@pytest.fixture
def searcher(tmp_path):
    folder = tmp_path / "pictures"
    for number, name in enumerate(FILES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"good")
        os.utime(path, (DAY * (1000 + number), DAY * (1000 + number)))
    model = NameModel()
    index = build_index(model, scan_folder(folder), tmp_path / "index", run=tmp_path / "run")
    return Searcher(model, index)


def ids(result):
    return [hit.id for hit in result.hits]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("beach", {FILES[0]}), ("DOG", {FILES[0]}), ("übung", {FILES[1]}), ("ÜBUNG", {FILES[1]}),
        ("U\u0308bung", {FILES[1]}), ("50%", {FILES[2]}), ("%_", {FILES[2]}), ("_", {FILES[2]}),
        ("2024", {*FILES[:2]}), ("!", set()), ("' OR 1=1", set()), (" ", {*FILES}),
    ],
)  # fmt: skip
def test_items_are_found_by_a_part_of_their_path(searcher, name, found):
    result = searcher.search_timed(Query("dog", filter=Filter(name=name)))
    assert set(ids(result)) == found
    assert result.total == len(found)


def test_a_name_alone_lists_items_without_a_score(searcher):
    result = searcher.search_timed(Query(filter=Filter(name="2024")))
    assert set(ids(result)) == {*FILES[:2]}
    (first, _) = json.loads(json.dumps(result.to_json()))["hits"]
    assert (first["score"], first["match"]) == (None, None)
    with pytest.raises(QueryError, match="some words"):
        searcher.search(Query())


def test_items_are_listed_by_date_page_by_page(searcher):
    newest = ids(searcher.search_timed(Query(sort="newest")))
    assert newest == [*reversed(FILES)]
    assert ids(searcher.search_timed(Query(sort="oldest"))) == [*FILES]
    page = searcher.search_timed(Query(sort="newest", k=2, offset=1))
    assert (ids(page), page.more, page.total) == (newest[1:3], True, 4)


def test_hits_are_cut_by_their_match_and_sorted_by_date(searcher):
    whole = searcher.search_timed(Query("zebra", k=4))
    assert whole.matches == tuple(sorted(whole.matches, reverse=True))
    least = (whole.matches[1] + whole.matches[2]) / 2
    cut = searcher.search_timed(Query("zebra", k=4, min_match=least))
    assert ids(cut) == ids(whole)[:2]
    assert (cut.total, cut.more) == (2, False)
    by_date = searcher.search_timed(Query("zebra", k=4, min_match=0.001, sort="oldest"))
    assert ids(by_date) == [*FILES]
    assert min(whole.matches) < FITS
    assert len(searcher.search(Query("zebra", k=4, sort="oldest"))) < 4
    assert len(searcher.search(Query("zebra", k=4, min_match=0, sort="oldest"))) == 4
    first = searcher.search_timed(Query("zebra", k=1, min_match=least))
    assert (first.more, first.total) == (True, 2)
    hits, matches = searcher.search_texts(["zebra"], Query(k=4, min_match=least))[0]
    assert len(hits) == len(matches) == 2


@pytest.mark.parametrize("fold", [False, True])
def test_counts_respect_filters(searcher, fold):
    among = Filter(folder="2024")
    total = searcher.search_timed(Query("dog", filter=among, fold=fold)).total
    assert total == (None if fold else 2)  # folding leaves fewer: how many is not known
    assert searcher.search_timed(Query(like=FILES[0], filter=among)).total == 1
    assert searcher.search_timed(Query(like=FILES[3], filter=among)).total == 2
    assert searcher.search_timed(Query(like=FILES[3])).total == 3


@pytest.mark.parametrize("wrong", [{"min_match": 1.5}, {"min_match": -0.1}, {"sort": "size"}])
def test_refuses_what_is_out_of_range(searcher, wrong):
    with pytest.raises(QueryError, match=next(iter(wrong))):
        searcher.search(Query("dog", **wrong))
