"""Search: queries, their limits, the JSON contract, scanning a folder, building an index."""

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from cl2cm.errors import ManifestError, MediaError, QueryError, VectorIndexError
from cl2cm.search import MAX_QUERY, PICTURES, Searcher, SearchResult, build_index, scan_folder
from cl2cm.types import Example, Hit


def direction(text):
    seed = int.from_bytes(text.encode(), "big") % 2**32
    vector = np.random.default_rng(seed).standard_normal(16).astype(np.float32)
    return vector / np.linalg.norm(vector)


class NameModel:
    """A picture and a text lie together when the file's stem is the text."""

    fingerprint = "name-model"
    dim = 16

    def __init__(self):
        self.batches = []
        self.encoding = 0

    def encode_text(self, texts):
        assert self.encoding == 0, "two threads at once"
        self.encoding += 1
        vectors = np.stack([direction(text) for text in texts])
        self.encoding -= 1
        return vectors

    def encode_visual(self, paths):
        self.batches.append(len(paths))
        for path in paths:
            if path.read_bytes() == b"bad":
                raise MediaError(
                    str(path), expected="a picture", found="rubbish", remedy="remove it"
                )
        return np.stack([direction(path.stem) for path in paths])


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


def test_json_is_the_contract():
    hit = Hit("a", 0.25, "/a.mp4", 1.5, 2.0, captions={"en": ("x",)})
    result = SearchResult("q", (hit, Hit("b", -0.5, "/b.png")), 1.23456, 0.5)
    assert json.loads(json.dumps(result.to_json())) == {
        "query": "q",
        "hits": [
            {"id": "a", "score": 0.25, "path": "/a.mp4", "start": 1.5, "end": 2.0},
            {"id": "b", "score": -0.5, "path": "/b.png", "start": None, "end": None},
        ],
        "ms": {"encode": 1.235, "search": 0.5},
    }


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


def test_scan_takes_pictures_in_order_and_nothing_else(tmp_path):
    root = tmp_path / "photos"
    wanted = ["B.JPG", "a/1.webp", "a/b/ü 2.gif", "c.tiff", "d.bmp", "e.jpeg", "f.png", "g.tif"]
    unwanted = ["notes.txt", ".hidden.png", ".cache/x.png", "a/.x/y.png", "noext", "x.png.part"]
    for name in wanted + unwanted:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "folder.png").mkdir()
    examples = scan_folder(root)
    assert [example.id for example in examples] == sorted(wanted)
    assert [example.image for example in examples] == [root / name for name in sorted(wanted)]
    assert {Path(name).suffix.lower() for name in wanted} | {".jpg"} == PICTURES


def test_scan_follows_no_link_out_of_the_folder(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.png").touch()
    (root / "real.png").touch()
    (root / "within.png").symlink_to(root / "real.png")
    (root / "out.png").symlink_to(secret / "key.png")
    (root / "album").symlink_to(secret)
    (root / "loop").symlink_to(root)
    (root / "broken.png").symlink_to(root / "gone.png")
    assert [example.id for example in scan_folder(root)] == ["real.png", "within.png"]


def test_scan_of_a_folder_that_is_itself_a_link(tmp_path, pictures):
    (tmp_path / "link").symlink_to(pictures)
    assert len(scan_folder(tmp_path / "link")) == 4


def test_scan_refuses_what_holds_no_pictures(tmp_path):
    with pytest.raises(MediaError, match="at least one picture"):
        scan_folder(tmp_path)
    with pytest.raises(MediaError, match="no such folder"):
        scan_folder(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(MediaError, match="a file"):
        scan_folder(tmp_path / "file")


def test_build_encodes_in_batches_and_reports(build):
    model = NameModel()
    done = []
    build(model=model, batch_size=3, progress=done.append)
    assert model.batches == [3, 1]
    assert done == [3, 4]


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
    index = build(on_bad=lambda example, error: bad.append((example.id, str(error))))
    assert len(index) == 4
    assert index.item_by_id("zebra.png").id == "zebra.png"
    assert [name for name, _ in bad] == ["crooked.png", "\udcff.png"]
    assert "rubbish" in bad[0][1]
    assert "rename the file" in bad[1][1]


def test_only_bad_pictures_make_no_index(build, pictures, tmp_path):
    for path in pictures.iterdir():
        path.write_bytes(b"bad")
    with pytest.raises(VectorIndexError, match="at least one vector"):
        build(on_bad=lambda *_: None)
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


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (Example("a", "x", features="a"), "features only"),
        (Example("a", "x", video=Path("a.mp4"), start=1.0), "a part of a film"),
    ],
)
def test_build_refuses_what_only_vectors_can_give(build, example, words):
    with pytest.raises(MediaError, match=words):
        build([example])
