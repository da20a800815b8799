import pytest

from cl2cm.data.containers import place
from cl2cm.data.containers.place import Place, find, is_url
from cl2cm.errors import DatasetError, MediaError, MissingExtraError


@pytest.fixture
def memory():
    fsspec = pytest.importorskip("fsspec", reason="pip install 'cl2cm[remote]'")
    system = fsspec.filesystem("memory")
    system.pipe({"/b/a.jpg": b"0123456789", "/b/deep/c.jpg": b"xyz", "/b/.hidden.jpg": b"-"})
    yield system
    system.rm("/b", recursive=True)


def test_finds_and_reads_ranges_of_any_file_system(memory):
    found = find(Place("memory://b"))
    assert [(file.name, file.size) for file in found] == [("a.jpg", 10), ("deep/c.jpg", 3)]
    assert found[0].place.read(2, 5) == b"234"
    assert [file.name for file in find(Place("memory://b/*.jpg"))] == ["a.jpg"]
    assert [file.name for file in find(Place("memory://b/a.jpg"))] == ["a.jpg"]
    before = found[0].state
    memory.pipe("/b/a.jpg", b"9876543210")
    assert find(Place("memory://b/a.jpg"))[0].state != before
    with found[0].place.open(10) as file:
        assert (file.read(3), file.seek(-2, 2), file.read()) == (b"987", 8, b"10")


def test_finds_local_files(tmp_path):
    for name in ("a.tar", "deep/b.tar", ".hidden/c.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert [file.name for file in find(Place(str(tmp_path)))] == ["a.tar", "deep/b.tar"]
    (file,) = find(Place(f"{tmp_path}/a*.tar"))
    assert file.place.read(0, 2) == b"a."
    with pytest.raises(MediaError, match="expected a file or folder, found none"):
        find(Place(str(tmp_path / "absent")))


def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_one_line(memory, monkeypatch):
    monkeypatch.setattr(place, "_WAITS", (0, 0))
    (file,) = find(Place("memory://b/a.jpg"))
    faults = [ConnectionError("reset"), EOFError("short"), None]
    plain = place._range

    def faulty(*arguments):
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return plain(*arguments)

    monkeypatch.setattr(place, "_range", faulty)
    assert file.place.read(0, 3) == b"012"
    faults[:] = [TimeoutError("no answer")] * 3
    with pytest.raises(DatasetError, match=r"memory://b/a.jpg: .* no answer; .* resumes"):
        file.place.read(0, 3)
    faults[:] = [PermissionError("denied")]
    with pytest.raises(DatasetError, match="denied"):
        file.place.read(0, 3)
    faults[:] = [FileNotFoundError()]
    with pytest.raises(MediaError, match="found none"):  # of one image, which can be skipped
        file.place.read(0, 3)


def test_protocols(memory, monkeypatch):
    with pytest.raises(DatasetError, match="nonsense"):
        find(Place("nonsense://x"))
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    place._file_system.cache_clear()
    with pytest.raises(MissingExtraError, match=r"cl2cm\[remote\]"):
        find(Place("memory://b"))
    place._file_system.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("s3://b/x", True), ("S3://b", True), ("photos", False), ("C:/x", False), ("a:b", False)],
)
def test_is_url(text, expected):
    assert is_url(text) is expected
