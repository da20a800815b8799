"""``cl2cm encode`` of containers and URLs: the features of the plain files, and no other host."""

import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from cl2cm.cli.app import run
from cl2cm.data.containers import place
from cl2cm.encode.store import FeatureStore
from fixtures import world
from fixtures.s3_server import KEY, s3_server
from fixtures.slow_step import hashes

BUCKET = "photos"
SOURCES = ("images", "tars", "tables", "manifest.jsonl", "tars/*.tar")
COUNT = 24


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The same images as files, in tars and in Parquet files, with captions."""
    arrow = pytest.importorskip("pyarrow", reason="pip install 'cl2cm[remote]'")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("data")
    manifest = world.write_pictures(folder, copies=1)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines.sort(key=lambda line: line["image"])
    for line in lines:
        line["captions"] = {"en": [f"caption of {line['id']}"]}
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("tars", "tables"):
        (folder / name).mkdir()
    for shard in range(2):
        some = lines[shard * 12 : shard * 12 + 12]
        images = [(folder / line["image"]).read_bytes() for line in some]
        texts = [line["captions"]["en"][0] for line in some]
        with tarfile.open(folder / "tars" / f"{shard}.tar", "w") as tar:
            for line, image, text in zip(some, images, texts, strict=True):
                for suffix, content in ((".png", image), (".txt", text.encode())):
                    info = tarfile.TarInfo(line["id"] + suffix)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        table = {
            "image": [{"bytes": image, "path": "/etc/passwd"} for image in images],
            "caption": texts,
        }
        path = folder / "tables" / f"{shard}.parquet"
        parquet.write_table(arrow.table(table), path, row_group_size=5)
    return folder


@pytest.fixture(params=["stand-in", "moto"])
def s3(request, data, monkeypatch, tmp_path):
    """The URL of a bucket with the data, and its server (None for moto's)."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place._file_system.cache_clear()
    if request.param == "stand-in":
        with s3_server(BUCKET, data) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            yield server
    else:
        with moto(monkeypatch, data):
            yield None
    place._file_system.cache_clear()


@contextmanager
def moto(monkeypatch, data):
    """Moto's own server, which may be in an environment of its own (an older python-dateutil)."""
    command = shutil.which("moto_server")
    if command is None:
        pytest.skip("pipx install 'moto[s3]' --preinstall flask --preinstall flask-cors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [command, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        server = f"http://127.0.0.1:{port}/{BUCKET}"
        for path in [None, *filter(Path.is_file, data.rglob("*"))]:  # the bucket first
            url = server if path is None else f"{server}/{path.relative_to(data)}"
            content = b"" if path is None else path.read_bytes()
            asked = urllib.request.Request(url, data=content, method="PUT")
            asked.add_header("Content-Type", "application/octet-stream")
            urllib.request.urlopen(asked).close()
        yield
    finally:
        process.terminate()
        process.wait()


def encode(source, out, encoder, *options):
    return run(["encode", str(source), "--out", str(out), "--encoder", encoder, *options])


def values(folder):
    store = FeatureStore.open(folder)
    return store.gather(torch.arange(len(store))).values


@pytest.mark.parametrize("source", SOURCES[1:])
def test_containers_have_the_features_of_the_files(source, data, small, tmp_path):
    assert encode(data / "images", tmp_path / "files", f"onnx:{small.vision}") == 0
    assert encode(data / source, tmp_path / "s", f"onnx:{small.vision}") == 0
    assert torch.equal(values(tmp_path / "s"), values(tmp_path / "files"))
    ids = FeatureStore.open(tmp_path / "s").ids
    assert len(set(ids)) == COUNT
    if source == "tables":
        assert ids[:2] == ["0/0", "0/1"]


def test_captions_of_containers(data, tmp_path):
    text = world.write_text(tmp_path / "text", max_tokens=64)
    for source in ("manifest.jsonl", "tars", "tables"):
        out = tmp_path / source
        assert encode(data / source, out, f"hf:{text}", "--side", "text") == 0
    assert hashes(tmp_path / "tars") == hashes(tmp_path / "tables")
    assert hashes(tmp_path / "tars") == hashes(tmp_path / "manifest.jsonl")


def test_s3(s3, data, small, tmp_path, monkeypatch):
    encoder = f"onnx:{small.vision}"
    monkeypatch.setattr("cl2cm.encode.encoding.LEAST_PICTURES", 8)
    assert encode(data / "images", tmp_path / "files", encoder) == 0
    for number, source in enumerate(SOURCES[:4]):
        if s3:
            s3.faults = 2  # of the server, for a moment
        assert encode(f"s3://{BUCKET}/{source}", tmp_path / str(number), encoder) == 0
        assert torch.equal(values(tmp_path / str(number)), values(tmp_path / "files")), source
    for job in ("2/2", "1/2"):
        assert encode(f"s3://{BUCKET}/tars", tmp_path / "array", encoder, "--shard", job) == 0
    assert encode(f"s3://{BUCKET}/tars", tmp_path / "array", encoder, "--merge") == 0
    assert hashes(tmp_path / "array") == hashes(tmp_path / "1")
    two = encode(f"s3://{BUCKET}/tables", tmp_path / "two", encoder, "--workers", "2")
    assert (two, hashes(tmp_path / "two")) == (0, hashes(tmp_path / "2"))


BAD = {
    "s3://other/x.png": 'found "s3://other/x.png"',
    "http://192.0.2.1/x.png": 'found "http://192.0.2.1/x.png"',
    "../secret/x.png": "in the manifest's folder or below, found another folder",
    "/etc/passwd": "in the manifest's folder or below, found another folder",
    "images/absent.png": "no such file",
}


@pytest.mark.parametrize("named", BAD)
def test_what_a_manifest_says_leads_to_no_other_place(
    named, data, small, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "data"
    shutil.copytree(data / "images", folder / "images")
    good = sorted((data / "images").iterdir())[0].name
    lines = [{"id": "bad", "image": named, "split": "x"}]
    lines += [{"id": "good", "image": f"images/{good}", "split": "x"}]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    encoder = f"onnx:{small.vision}"
    with s3_server(BUCKET, folder) as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": server.url,
        }.items():
            monkeypatch.setenv(name, value)  # fmt: skip
        place._file_system.cache_clear()
        if "://" in named:  # a manifest of this machine contacts nobody
            assert encode(folder / "manifest.jsonl", tmp_path / "local", encoder) == 2
            assert BAD[named] in capsys.readouterr().err
            assert not server.requests
        url = f"s3://{BUCKET}/manifest.jsonl"
        assert encode(url, tmp_path / "s", encoder) == 2
        assert BAD[named] in capsys.readouterr().err
        assert encode(url, tmp_path / "s", encoder, "--skip-bad", "--json") == 0
        assert json.loads(capsys.readouterr().out)["items"] == 1
        asked = {path.partition("?")[0] for _, path in server.requests}
        assert not {path for path in asked if not path.startswith(f"/{BUCKET}")}
        assert not {path for path in asked if "secret" in path or "other" in path}
    place._file_system.cache_clear()


@pytest.mark.parametrize("source", ["file:///etc", "simplecache::s3://b/x", "zip://a::s3://b"])
def test_addresses_that_lead_elsewhere_are_refused(source, small, tmp_path, capsys):
    assert encode(source, tmp_path / "s", f"onnx:{small.vision}") == 2
    assert "expected a path, or one URL" in capsys.readouterr().err


def test_wrong_credentials_are_one_line(data, small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(place, "_WAITS", (0, 0))
    with s3_server(BUCKET, data) as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "wrong",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": server.url,
        }.items():
            monkeypatch.setenv(name, value)  # fmt: skip
        place._file_system.cache_clear()
        assert encode(f"s3://{BUCKET}/tars", tmp_path / "s", f"onnx:{small.vision}") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: s3://photos/tars: expected a place that can be read")
    assert "your credentials" in error
    place._file_system.cache_clear()


def test_damaged_tables_and_rows(data, small, tmp_path, capsys):
    import pyarrow
    from pyarrow import parquet

    encoder = f"onnx:{small.vision}"
    whole = (data / "tables" / "0.parquet").read_bytes()
    path = tmp_path / "a.parquet"
    path.write_bytes(whole[:-200] + bytes(100) + whole[-100:])
    assert encode(path, tmp_path / "s", encoder) == 2
    assert "a.parquet: expected a Parquet file, found a damaged one" in capsys.readouterr().err
    parquet.write_table(pyarrow.table({"a": [1], "caption": ["x"]}), path)
    assert encode(path, tmp_path / "s", encoder) == 2
    assert "expected one column of images" in capsys.readouterr().err
    image = sorted((data / "images").iterdir())[0].read_bytes()
    rows = [{"bytes": image, "path": None}, {"bytes": None, "path": "/etc/passwd"}]
    parquet.write_table(pyarrow.table({"image": rows, "id": ["one", "two"]}), path)
    assert encode(path, tmp_path / "s", encoder, "--skip-bad", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == ["two"]
    parquet.write_table(pyarrow.table({"image": rows, "id": ["one", "one"]}), path)
    assert encode(path, tmp_path / "t", encoder) == 2
    assert "expected ids that are unique, found 'one' twice" in capsys.readouterr().err


def test_damaged_and_packed_tars(data, small, tmp_path, capsys):
    encoder = f"onnx:{small.vision}"
    whole = (data / "tars" / "0.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:3000])
    assert encode(tmp_path / "a.tar", tmp_path / "s", encoder) == 2
    assert "expected" in capsys.readouterr().err
    (tmp_path / "b.tar.gz").write_bytes(b"")
    assert encode(tmp_path / "b.tar.gz", tmp_path / "s", encoder) == 2
    assert "cl2cm prepare webdataset" in capsys.readouterr().err
