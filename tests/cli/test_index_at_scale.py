"""``cl2cm index`` in shards, over a folder that is not mounted, and again over what is unchanged."""

import json
import shutil

import pytest

from cl2cm.cli.app import run as cli
from cl2cm.index import Index
from fixtures.strangers import head_of


@pytest.fixture
def photos(small, tmp_path):
    return shutil.copytree(small.manifest.parent, tmp_path / "photos")


def command(capsys, *line, code=0):
    found = cli([str(part) for part in line])
    shown = capsys.readouterr()
    assert found == code, shown.err
    return json.loads(shown.out) if "--json" in line else shown.err


def hits(capsys, index):
    found = command(capsys, "search", index, "red circle", "-k", 7, "--json")["hits"]
    return [(hit["id"], hit["score"], hit["path"]) for hit in found]


def test_shards_and_their_merge_are_the_index_of_one_run(trained, photos, tmp_path, capsys):
    whole, out = tmp_path / "whole", tmp_path / "index"
    made = command(capsys, "index", trained, photos, whole, "--json")
    for number in (3, 1, 2):
        part = command(capsys, "index", trained, photos, out, "--shard", f"{number}/3", "--json")
        assert part["index"].endswith(f"index.shard-{number}-of-3")
    merged = command(capsys, "index", trained, photos, out, "--merge", "--json")
    assert merged == {"index": str(out), "items": made["items"], "shards": 3}
    assert len(head_of(out)["parts"]) == 3
    assert hits(capsys, out) == hits(capsys, whole)
    again = command(capsys, "index", trained, photos, out, "--json")
    assert (again["encoded"], again["kept"]) == (0, made["items"])
    assert command(capsys, "doctor", out, "--json")["damaged"] == []


def test_what_cannot_be_combined_or_merged(trained, photos, tmp_path, capsys):
    out = tmp_path / "index"
    line = ("index", trained, photos, out)
    told = command(capsys, *line, "--merge", "--shard", "1/2", code=2)
    assert "--shard and --merge" in told
    assert "I/N" in command(capsys, *line, "--shard", "3/2", code=2)
    command(capsys, *line, "--shard", "1/2", "--json")
    assert "none of number 2" in command(capsys, *line, "--merge", code=2)
    assert not (out / "index.json").exists()


def test_a_subfolder_that_is_not_mounted_stays_in_the_index(trained, photos, tmp_path, capsys):
    out = tmp_path / "index"
    (photos / "disk").mkdir()
    for path in sorted(photos.rglob("*.png"))[:5]:
        path.rename(photos / "disk" / path.name)
    made = command(capsys, "index", trained, photos, out, "--json")
    (photos / "disk").rename(tmp_path / "away")
    (photos / "disk").mkdir()
    again = command(capsys, "index", trained, photos, out, "--json")
    assert (again["items"], again["encoded"], again["dropped"]) == (made["items"], 0, 0)
    (photos / "disk").rmdir()
    gone = command(capsys, "index", trained, photos, out, "--json")
    assert gone["dropped"] == 5
    (tmp_path / "away").rename(photos / "disk")
    back = command(capsys, "index", trained, photos, out, "--json")
    assert (back["items"], back["encoded"]) == (made["items"], 0)
    with_files = Index.open(out)
    assert len(with_files) == made["items"]
