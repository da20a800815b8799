"""Archives, tables and features of strangers that claim or unpack to far more than they are."""

import gzip
import json
import resource
import struct
import tarfile
import time
import tracemalloc

import numpy as np
import pytest

from cl2cm.data import gzip_reading
from cl2cm.data.manifest import read_manifest
from cl2cm.data.readers import huggingface
from cl2cm.data.readers.csv_files import read_csv
from cl2cm.data.readers.json_files import parse_json
from cl2cm.data.readers.reading import Options, read_lines
from cl2cm.data.readers.tar_shards import read_members, read_pieces
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.errors import CL2CMError, DatasetError, ManifestError, MediaError, StoreError
from cl2cm.media import arrow_files
from cl2cm.model import run_folder


def header(name, kind, size, prefix=b""):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return prefix + info.tobuf(tarfile.GNU_FORMAT)


def peak(work):
    """Megabytes that Python allocates at most while something fails."""
    tracemalloc.start()
    try:
        with pytest.raises(CL2CMError) as error:
            work()
        return error.value, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


KINDS = {
    "PAX": tarfile.XHDTYPE,
    "PAX of all": tarfile.XGLTYPE,
    "Solaris": tarfile.SOLARIS_XHDTYPE,
    "long name": tarfile.GNUTYPE_LONGNAME,
    "long link": tarfile.GNUTYPE_LONGLINK,
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_header_of_a_member_is_small(tmp_path, kind, packed):
    path = tmp_path / ("a.tar.gz" if packed else "a.tar")
    size = 150 * 2**20
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        file.write(header("x", KINDS[kind], size))
        if packed:
            for _ in range(size // 2**20):
                file.write(b"\0" * 2**20)
        else:
            file.truncate(size)
    error, used = peak(lambda: list(read_members(path)))
    assert "a header of" in str(error)
    assert used < 20


def test_many_headers_are_few_bytes(tmp_path):
    one = b"".join(b"%06d k%05d=%s\n" % (100_015, n, b"x" * 100_000) for n in range(2))
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        for n in range(40):
            body = one.replace(b" k", b" %02d" % n)[: 2 * 100_000]
            line = b"%d %02dk=%s\n"
            body = line % (100_000, n, b"x" * (100_000 - 12))
            file.write(header("g", tarfile.XGLTYPE, len(body)) + body.ljust(100_352, b"\0"))
            file.write(header(f"f{n}.txt", tarfile.REGTYPE, 0))
        file.write(b"\0" * 1024)
    error, used = peak(lambda: list(read_members(path)))
    assert "headers of more than" in str(error)
    assert used < 20


def test_a_chain_of_headers(tmp_path):
    path = tmp_path / "a.tar"
    body = b"11 a=bcdef\n".ljust(512, b"\0")
    path.write_bytes((header("x", tarfile.XHDTYPE, 11) + body) * 3000 + b"\0" * 1024)
    with pytest.raises(DatasetError, match="a long chain of headers"):
        list(read_members(path))


@pytest.mark.parametrize(
    "body",
    [
        b"2 " * 24_000 + b"a=",  # each record the rest of the header
        b"1" * 24_000,
        b"24005 a=" + b"7" * 23_996 + b"\n",
        b"30 a=12345\n" * 2000,
        b"9 a=123\n" * 2000,
    ],
)
def test_attributes_are_read_in_linear_time(tmp_path, body):
    path = tmp_path / "a.tar"
    padded = body.ljust(-(-len(body) // 512) * 512, b"\0")
    head = header("x", tarfile.XHDTYPE, len(body))
    path.write_bytes(head + padded + header("a.txt", tarfile.REGTYPE, 0) + b"\0" * 1024)
    begin = time.process_time()
    error, used = peak(lambda: list(read_members(path)))
    assert "attributes" in str(error)
    assert used < 2
    assert time.process_time() - begin < 1


def test_a_map_of_holes_is_small(tmp_path):
    path = tmp_path / "a.tar.gz"
    attributes = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header("x", tarfile.XHDTYPE, len(attributes)) + attributes.ljust(512, b"\0"))
        file.write(header("a.txt", tarfile.REGTYPE, 2**24) + b"9999999\n")
        file.write(b"0\n" * (2**22 - 4) + b"\0" * 1024)
    error, used = peak(lambda: list(read_members(path)))
    assert "a header of" in str(error)
    assert used < 40


def test_honest_headers_are_read(tmp_path):
    path = tmp_path / "a.tar"
    name = "long/" + "n" * 3000 + ".txt"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w", format=form) as tar:
            info = tarfile.TarInfo(name)
            info.pax_headers = {"SCHILY.xattr.user.x": "y" * 50_000}
            tar.addfile(info)
        assert [member.name for member in read_members(path)] == [name]


@pytest.fixture
def bound(monkeypatch):
    """Gzip files may unpack to little, so that the tests stay quick."""
    monkeypatch.setattr(gzip_reading, "FREE", 2**20)


def blank_gzip(path, size, start=b"", byte=b" "):
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(start)
        for _ in range(size // 2**20):
            file.write(byte * 2**20)


def test_gzip_bombs(tmp_path, bound):
    manifest, table, shard = (tmp_path / n for n in ("a.jsonl.gz", "t.txt.gz", "a.tar.gz"))
    blank_gzip(manifest, 40 * 2**20)
    blank_gzip(table, 40 * 2**20)
    blank_gzip(shard, 40 * 2**20, header("a.jpg", tarfile.REGTYPE, 2**40), b"\0")
    for kind, work in (
        (ManifestError, lambda: list(read_manifest(manifest))),
        (DatasetError, lambda: read_lines(table)),
        (DatasetError, lambda: list(read_members(shard))),
        (DatasetError, lambda: [list(read_pieces(m, 2**41)) for m in read_members(shard)]),
    ):
        with pytest.raises(kind, match="unpacks to more than"):
            work()


def test_honest_gzip_is_read(tmp_path, bound):
    path = tmp_path / "t.txt.gz"
    lines = [f"caption {n} of a dog in the snow" for n in range(60_000)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    assert read_lines(path) == lines


# --- JSON and CSV ----------------------------------------------------------------------------


def test_many_keys_are_compared_quickly(tmp_path):
    keys = [f'"k{n}": 0' for n in range(60_000)]
    begin = time.process_time()
    with pytest.raises(DatasetError, match="'k59999' twice"):
        parse_json("{" + ", ".join([*keys, keys[-1]]) + "}", "x")
    (tmp_path / "a.csv").write_text(",".join(f"c{n}" for n in range(60_000)) + ",c59999\n")
    with pytest.raises(DatasetError):
        list(read_csv(tmp_path / "a.csv", ["c0"]))
    line = '{"id": "a", ' + ", ".join([*keys, keys[-1]]) + "}"
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(ManifestError, match="twice"):
        list(read_manifest(tmp_path / "a.jsonl"))
    assert time.process_time() - begin < 10


# --- features --------------------------------------------------------------------------------


@pytest.fixture
def hdf5():
    return pytest.importorskip("h5py", reason="the extra features is not installed")


def test_hdf5_reads_no_other_file(hdf5, tmp_path):  # noqa: C901 - one maker for each kind
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.ones(8, "<f4").tobytes())
    with hdf5.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.ones(8, np.float32)

    def external_storage(file):
        file.create_dataset("a", (8,), "<f4", external=[(str(secret), 0, 32)])

    def external_link(file):
        file["a"] = hdf5.ExternalLink(str(tmp_path / "other.h5"), "x")

    def soft_link(file):
        file["z"] = np.ones(8, np.float32)
        file["a"] = hdf5.SoftLink("/z")

    def soft_link_to_external(file):
        file["b/x"] = np.ones(8, np.float32)
        file["b/y"] = hdf5.ExternalLink(str(tmp_path / "other.h5"), "x")
        file["a"] = hdf5.SoftLink("/b/y")

    def virtual(file):
        layout = hdf5.VirtualLayout((8,), "<f4")
        layout[:] = hdf5.VirtualSource(str(tmp_path / "other.h5"), "x", (8,))
        file.create_virtual_dataset("a", layout)

    def objects(file):
        file["a"] = ["text"]

    def references(file):
        file["z"] = np.ones(8, np.float32)
        file.create_dataset("a", (1,), hdf5.ref_dtype)[0] = file["z"].ref

    def huge(file):
        file.create_dataset("a", (2**16, 2**15), "<f4", chunks=(64, 64), compression="gzip")

    def group(file):
        file.create_group("a")

    for make in (
        external_storage, external_link, soft_link, soft_link_to_external, virtual, objects,
        references, huge, group,
    ):  # fmt: skip
        path = tmp_path / f"{make.__name__}.h5"
        with hdf5.File(path, "w") as file:
            make(file)
        with pytest.raises(StoreError, match=f"{make.__name__}.h5: expected a data set"):
            assert FeatureFiles("f", path).fingerprint
        with hdf5.File(path, "a") as file:  # not only in the first place
            file["A"] = np.ones(8, np.float32)
        with pytest.raises(StoreError, match="expected a data set"):
            assert FeatureFiles("f", path).fingerprint


def npy(path, shape, dtype="<f4", body=b""):
    head = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + body)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2**40, 4), "<f4"),
        ((2**31, 2**33), "<f4"),
        ((2**62,), "<f4"),
        ((4,), "|O"),
        ((2**40,), "|V0"),
        ((2**40,), "<U0"),
        ((-4, 4), "<f4"),
    ],
)
def test_npy_headers_are_not_believed(tmp_path, shape, dtype):
    folder = tmp_path / "items"
    folder.mkdir()
    np.save(folder / "a.npy", np.ones((2, 4), np.float32))
    npy(folder / "b.npy", shape, dtype, b"\x80\x04." * 8)
    with pytest.raises(StoreError):
        assert FeatureFiles("f", folder).fingerprint
    npy(tmp_path / "m.npy", shape, dtype)
    (tmp_path / "m.txt").write_text("a b")
    with pytest.raises(StoreError):
        assert FeatureFiles("f", tmp_path / "m.npy").fingerprint


def test_numbers_of_thousands_of_digits(tmp_path):
    (tmp_path / "feature.bin").write_bytes(np.ones(8, "<f4").tobytes())
    (tmp_path / "id.txt").write_text(f"a_{'1' * 5000} b_1")
    (tmp_path / "shape.txt").write_text("2 4")
    assert FeatureFiles("f", tmp_path).width == 4
    (tmp_path / "shape.txt").write_text(f"{'1' * 5000} 4")
    with pytest.raises(StoreError, match="two numbers"):
        assert FeatureFiles("f", tmp_path).fingerprint


# --- tables of Hugging Face ------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A directory of one row, with a column that the package would open."""
    package = pytest.importorskip("datasets", reason="the extra datasets is not installed")
    package.disable_progress_bars()
    png = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
    link = {"bytes": None, "path": "http://127.0.0.1:9/sound.wav"}
    rows = {"image": [{"bytes": png, "path": None}], "text": ["a"], "link": [link]}
    rows = package.Dataset.from_dict(rows).cast_column("image", package.Image(decode=False))
    kinds = {"bytes": package.Value("binary"), "path": package.Value("string")}
    rows.cast_column("link", kinds).cast_column("image", package.Image()).save_to_disk(
        str(tmp_path / "d")
    )
    path = tmp_path / "d" / "dataset_info.json"
    info = json.loads(path.read_text())
    info["features"]["link"] = {"sampling_rate": None, "_type": "Audio"}
    path.write_text(json.dumps(info))
    return tmp_path / "d"


def read(path):
    return huggingface.read(path, Options(no_images=True))


def test_other_columns_are_not_opened(saved):
    state = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(json.dumps(state | {"_format_type": "torch"}))
    assert [example.captions for example in read(saved).examples] == [{"en": ("a",)}]


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x.arrow", "a::http://127.0.0.1/x", "http://127.0.0.1/x", "", 7, None],
)
def test_names_stay_in_the_directory(saved, tmp_path, name):
    state = json.loads((saved / "state.json").read_text())
    state["_data_files"] = [{"filename": name}]
    (saved / "state.json").write_text(json.dumps(state))
    with pytest.raises(DatasetError, match="names of files in it"):
        read(saved)
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(DatasetError, match="names of files in it"):
        read(tmp_path / "many")


def test_a_linked_table_is_refused(saved):
    arrow = next(saved.glob("*.arrow"))
    arrow.rename(saved.parent / "x.arrow")
    arrow.symlink_to(saved.parent / "x.arrow")
    with pytest.raises(DatasetError, match="a file, found none, or a link"):
        read(saved)


def test_a_compressed_table_is_measured(saved):
    import pyarrow as pa

    arrow = next(saved.glob("*.arrow"))
    with pa.ipc.open_stream(arrow.read_bytes()) as stream:
        schema = stream.schema
    rows = pa.table({"text": ["a" * 150_000_000]})
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(str(arrow), rows.schema, options=options) as file:
        file.write_table(rows)
    assert arrow.stat().st_size < 2**20
    assert schema is not None
    with pytest.raises(MediaError, match="unpacks to more than"):
        arrow_files.check_arrow(arrow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError, match="unpacks to more than"):
        read(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


# --- a run's contract ------------------------------------------------------------------------


def test_a_contract_is_small(trained_run_files):
    run, agreed = trained_run_files
    example = agreed["examples"][0]
    for examples in ([example] * 100_000, [example | {"text": "x" * 20_000}]):
        (run / "contract.json").write_text(json.dumps(agreed | {"examples": examples}))
        begin = time.process_time()
        with pytest.raises(CL2CMError, match=r"more or longer examples|small file"):
            run_folder.read_run(run)
        assert time.process_time() - begin < 10


@pytest.fixture
def trained_run_files(tmp_path):
    """The two files that are read before the contract's texts are encoded."""
    from cl2cm.model.config import Config, to_toml

    vector = {"text": "a dog", "ids": [1], "vector": [1.0, 0.0]}
    agreed = {"backbone": "b", "tokenizer": "t", "vision": {"fingerprint": "v"}}
    agreed["examples"] = [vector]
    (tmp_path / "config.toml").write_text(to_toml(Config()))
    (tmp_path / "provenance.json").write_text("{}")
    (tmp_path / "contract.json").write_text(json.dumps(agreed))
    run_folder.read_run(tmp_path)
    return tmp_path, agreed
