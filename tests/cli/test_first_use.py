"""What people type first, and the one line that tells them what to type instead."""

import json
import shutil

import pytest

from cl2cm.cli.app import run


def test_the_bare_command_shows_its_help(capfd):
    assert run([]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith("Usage:")
    assert any(line.split()[:1] == ["search"] for line in lines)


@pytest.mark.parametrize(
    ("typed", "usage"),
    [
        (["search"], "Usage: cl2cm search {index} [query]... See: cl2cm search --help"),
        (["prepare", "photos", "out"], "cl2cm prepare {dataset} {source} {out}"),
        (["evaluate", "run"], "cl2cm evaluate {run} {manifest}"),
    ],
)
def test_a_missing_argument_comes_with_the_usage(typed, usage, bench):
    assert usage in bench.refused(typed, "Missing argument", usage=True)


def test_a_captions_table_is_not_told_as_left_out(bench):
    bench.write("pictures/captions.csv", "file,caption\nred.png,red circle\n")
    bench.write("pictures/notes.csv", "a,b\n")
    assert run(["index", str(bench.trained), str(bench.pictures), str(bench.out)]) == 0
    assert "left out: 1 .csv\n" in bench.capfd.readouterr().err


def test_a_run_in_its_first_epoch_is_no_folder_of_images(bench):
    unfinished = bench.folder / "run"
    unfinished.mkdir()
    shutil.copy(bench.trained / "config.toml", unfinished)
    bench.refused(["index", unfinished, bench.pictures], f"{unfinished} {bench.pictures} INDEX")


def test_what_is_no_run_leads_to_one(bench):
    index = bench.index()
    bench.refused(["index", "siglip", bench.pictures, bench.out], "siglip", "cl2cm models")
    table = bench.write("captions.csv", "file,caption")
    bench.refused(["index", table, bench.pictures, bench.out], "found a file")
    bench.refused(["index", bench.pictures, index / "new"], "cl2cm index RUN")


def test_a_folder_with_a_manifest_in_it(bench):
    manifest = bench.manifest(bench.item())
    line = bench.refused(
        ["evaluate", bench.trained, bench.folder], f"name the manifest in it: {manifest}"
    )
    assert "OUT" not in line


def test_images_and_videos_by_their_usual_names(bench, capfd):
    index = bench.index()
    for kind, found in {"image": True, "video": False, "picture": True, "film": False}.items():
        assert run(["search", str(index), "red", "--media", kind, "--json"]) == 0
        assert bool(json.loads(capfd.readouterr().out)["hits"]) is found
    bench.refused(["search", index, "red", "--media", "photo"], "'image' or 'video'")


def test_a_picture_to_be_like_that_is_not_there(bench):
    index, nowhere = bench.index(), bench.folder / "none.png"
    line = bench.refused(["search", index, "--picture", nowhere], f"--image {nowhere}")
    assert "--skip-bad" not in line
    bench.refused(["search", index, "--picture", bench.pictures], "found a folder")


def test_init_refuses_an_engine_that_does_not_exist(bench):
    bench.write("pictures/captions.csv", "file,caption\nred.png,red circle\n")
    line = bench.refused(
        ["init", bench.pictures, "--to", "de", "--engine", "nosuch", "--out", bench.out], "'nosuch'"
    )
    assert line.count("bergamot") == 1  # the choice is listed once


def test_an_index_whose_run_has_moved(bench):
    made = bench.run()
    index = bench.index(made)
    moved = made.rename(bench.folder / "moved")
    for command in (["search", index, "red"], ["serve", index, "--port", "0"]):
        bench.refused(command, str(made), "no such folder", "--run")
    bench.accepted("search", index, "red", "--run", moved)


def test_an_unwritable_result_is_refused_before_the_work(bench, monkeypatch):
    def works(*_arguments, **_options):
        raise AssertionError("worked")

    index, manifest = bench.index(), bench.manifest(bench.item())
    queries = bench.write("queries.txt", "red\n")
    file = bench.write("file.txt", "")
    monkeypatch.setattr("cl2cm.cli.evaluation.open_subject", works)
    monkeypatch.setattr("cl2cm.cli.indexing.open_searcher", works)
    monkeypatch.setattr("cl2cm.evaluation.alignment.view.align", works)
    for path, found in {file / "a.csv": "file.txt", bench.pictures: "pictures"}.items():
        for command in (
            ["evaluate", bench.trained, manifest, "--trec", path],
            ["evaluate", bench.trained, manifest, "--per-query", path],
            ["align", bench.trained, "a dog", "ein Hund", "--html", path],
            ["search", index, "--queries", queries, "--trec", path],
            ["bench", "openmoji", "--csv", path],
        ):
            bench.refused(command, found)
