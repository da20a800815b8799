import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cl2cm.cli.app import run
from cl2cm.cli.indexing import index_source, open_searcher
from cl2cm.data.scan import scan_folder
from cl2cm.errors import MediaError
from cl2cm.media import shots
from cl2cm.media.shots import find_shots, split_films
from cl2cm.types import Example
from fixtures.videos import slides, write_film
from fixtures.world import COLOURS, SHAPES, caption, draw

pytest.importorskip("av", reason="the extra video is not installed")

THINGS = [(c, s) for c, s in zip(list(COLOURS) * 2, list(SHAPES) * 3, strict=True)]


def picture(colour, shape, side=64):
    return np.asarray(draw(colour, shape, seed=1).resize((side, side), 0))


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CL2CM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Films of the world's things, made once."""
    folder = tmp_path_factory.mktemp("films")

    def make(name="film", things=THINGS, **ways):
        path = folder / f"{name}.mp4"
        if not path.exists():
            write_film(path, slides([picture(*thing) for thing in things], **ways))
        return path

    return make


def starts(spans):
    return [start for start, _ in spans]


@pytest.mark.parametrize("fade", [0, 0.5, 1.0])
def test_cuts_and_fades_are_found(make, fade):
    seconds = 2 + fade
    spans = find_shots(make(f"slides{fade}", fade=fade, seconds=seconds))
    assert len(spans) == len(THINGS)
    wanted = seconds * np.arange(len(THINGS))
    assert_allclose(starts(spans), wanted, atol=0.45 if fade else 1e-6)
    assert [end for _, end in spans[:-1]] == starts(spans)[1:]
    assert spans[-1][1] == pytest.approx(seconds * len(THINGS), abs=0.11)


def test_what_is_no_change(tmp_path):
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 255, (16, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    frames = []
    for number in range(60):  # a camera that moves, grain, and two flashes
        frame = wide[:, 2 * number : 2 * number + 128] + rng.normal(0, 8, (128, 128, 3))
        frames.append(np.clip(frame * (1.6 if number in (20, 41) else 1), 0, 255).astype(np.uint8))
    assert len(find_shots(write_film(tmp_path / "moving.mp4", frames))) == 1


def test_a_fade_through_black_is_one_change(tmp_path):
    one, two = picture("red", "cross"), picture("blue", "bar")
    shares = [1.0] * 20 + [0.8, 0.6, 0.4, 0.2, 0.0]
    frames = [(one * s).astype(np.uint8) for s in shares]
    frames += [(two * s).astype(np.uint8) for s in reversed(shares)]
    spans = find_shots(write_film(tmp_path / "black.mp4", frames))
    assert_allclose(starts(spans), [0, 2.5], atol=0.4)


def test_long_shots_are_divided(tmp_path, monkeypatch):
    monkeypatch.setattr(shots, "LONGEST", 2.0)
    path = write_film(tmp_path / "one.mp4", [picture("red", "bar")] * 50)
    assert_allclose(find_shots(path), [(0, 5 / 3), (5 / 3, 10 / 3), (10 / 3, 5)], atol=1e-3)


def test_a_part_is_cut_within_its_bounds(make):
    spans = find_shots(make("fade0.5", fade=0.5), 3.0, 7.5)
    assert_allclose(spans, [(3, 4), (4, 6), (6, 7.5)], atol=0.3)
    assert (spans[0][0], spans[-1][1]) == (3.0, 7.5)


def test_split_films_in_their_place(make):
    film = make("fade0.5", fade=0.5)
    captions = {"en": ("shapes",)}
    examples = [
        Example("a.png", "test", image=film),
        Example("f.mp4", "test", video=film, captions=captions),
        Example("short", "test", video=film, start=1.0, end=9.0),
        Example("x", "test", features="x"),
    ]
    split = split_films(examples)
    assert [e for e in split if not e.id.startswith("f.mp4")] == [
        examples[0], *examples[2:]]  # fmt: skip
    found = split[1:-2]
    assert len(found) == len(THINGS)
    assert len({e.id for e in found}) == len(found)
    for example in found:
        assert example.id == f"f.mp4#t={example.start:.1f},{example.end:.1f}"
        assert (example.video, example.captions, example.split) == (film, captions, "test")
    assert len(split_films(examples, longer_than=0)) == len(split) + 4
    assert split_films(examples, longer_than=60) == examples


def test_a_film_of_one_shot_stays_whole(tmp_path):
    path = write_film(tmp_path / "one.mp4", [picture("red", "bar")] * 30)
    example = Example("one", "x", video=path)
    assert split_films([example], longer_than=0) == [example]


def test_shots_are_looked_for_once(make, tmp_path, monkeypatch):
    example = Example("f", "x", video=make("fade0.5", fade=0.5))
    first = split_films([example])
    (kept,) = (tmp_path / "cache" / "shots").iterdir()
    sought = []
    find = shots.shots_of
    monkeypatch.setattr(shots, "shots_of", lambda *a, **k: (sought.append(1), find(*a, **k))[1])
    assert split_films([example]) == first
    assert not sought
    for damage in ("", "[]", '{"shots": [[2, 1]]}', '{"shots": []}', '{"shots": [["a", 2]]}'):
        kept.write_text(damage)
        assert split_films([example]) == first
    assert len(sought) == 5
    assert json.loads(kept.read_text())["shots"][0][0] == 0


def test_bad_films_are_told_or_refused(make, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film")
    examples = [Example("b", "x", video=bad), Example("f", "x", video=make("fade0.5", fade=0.5))]
    with pytest.raises(MediaError, match=r"bad\.mp4"):
        split_films(examples)
    told = []
    split = split_films(examples, on_skip=lambda name, error: told.append((name, error)))
    assert len(split) == len(THINGS)
    assert [name for name, _ in told] == ["b"]


def test_progress_is_told_in_seconds(make):
    done = []
    find_shots(make("fade0.5", fade=0.5), progress=done.append)
    assert sum(done) == pytest.approx(2 * len(THINGS), abs=1)


# --- moments ----------------------------------------------------------------------------------


@pytest.fixture
def collection(make, tmp_path):
    """A folder with a film, a picture, and other things."""
    folder = tmp_path / "collection"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(make("fade0.5", fade=0.5).read_bytes())
    draw("black", "cross", 5).save(folder / "picture.png")
    (folder / "notes.txt").write_text("no film")
    return folder


def right(searcher):
    """How many things are first or second, at the right second."""
    count = 0
    for place, thing in enumerate(THINGS):
        hits = searcher.search(caption(*thing), 2)
        count += any(hit.start is not None and abs(hit.start - 2 * place) <= 1 for hit in hits)
    return count


def test_films_are_scanned(collection):
    film, image = scan_folder(collection)
    assert (film.id, film.video, film.image) == ("film.mp4", collection / "film.mp4", None)
    assert (image.id, image.image) == ("picture.png", collection / "picture.png")


def test_moments_are_found(trained, collection, tmp_path):
    made = index_source(trained, collection, tmp_path / "index")
    assert made["items"] == len(THINGS) + 1
    searcher = open_searcher(tmp_path / "index")
    assert right(searcher) >= 0.75 * len(THINGS)
    whole = index_source(trained, collection, tmp_path / "whole", shots=False)
    assert whole["items"] == 2
    assert right(open_searcher(tmp_path / "whole")) == 0


def test_shots_on_the_command_line(trained, collection, tmp_path, capfd):
    index = str(tmp_path / "index")
    for option, items in (("--no-shots", 2), ("--shots", len(THINGS) + 1)):
        assert run(["index", str(trained), str(collection), index, option, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["items"] == items
    assert run(["search", index, caption(*THINGS[6]), "-k", "2", "--json"]) == 0
    hits = json.loads(capfd.readouterr().out)["hits"]
    assert all(hit["id"].startswith("film.mp4#t=") for hit in hits)
    (hit,) = (hit for hit in hits if abs(hit["start"] - 12) < 0.5)
    assert hit["end"] == pytest.approx(14, abs=0.5)


def test_a_bad_film_is_skipped_when_asked(trained, collection, tmp_path, capfd):
    (collection / "bad.mov").write_bytes(b"")
    arguments = ["index", str(trained), str(collection), str(tmp_path / "index"), "--json"]
    assert run([*arguments, "--strict"]) == 2
    assert "bad.mov: expected a complete video, found an empty file" in capfd.readouterr().err
    assert run([*arguments, "--skip-bad"]) == 0
    made = json.loads(capfd.readouterr().out)
    assert (made["skipped"], made["items"]) == (["bad.mov"], len(THINGS) + 1)
