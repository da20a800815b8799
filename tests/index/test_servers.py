"""Credentials go where the user said, never where a folder says."""

import json
import os
import shutil

import pytest

from cl2cm.errors import CL2CMError, ConfigError, VectorIndexError
from cl2cm.index import Allowed, Index
from cl2cm.index.address import (
    Server,
    is_loopback,
    postgres_address,
    public_postgres,
    qdrant_address,
)
from cl2cm.index.backends.location import Location
from cl2cm.index.update.update import UpdateOptions, update_index
from fixtures.strangers import (
    Silent,
    forge_server,
    head_of,
    listening,
    make_index,
    unit,
    write_head,
)

SECRETS = {
    "PGPASSWORD": "s3cret",
    "PGUSER": "me",
    "QDRANT_API_KEY": "s3cret",
}
BACKENDS = ("pgvector", "qdrant")


def url_of(backend, port):
    postgres = backend == "pgvector"
    return f"postgresql://me@127.0.0.1:{port}/db" if postgres else f"http://127.0.0.1:{port}"


@pytest.fixture(params=BACKENDS)
def backend(request):
    pytest.importorskip({"pgvector": "psycopg", "qdrant": "qdrant_client"}[request.param])
    return request.param


@pytest.fixture
def silent(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with listening() as server:
        yield server


class Model:
    fingerprint, dim = "m", 8

    def encode_visual(self, paths):
        return unit(len(paths))


def test_an_index_of_a_stranger_does_not_contact_its_server(tmp_path, backend, silent):
    path = make_index(tmp_path / "evil")
    url = url_of(backend, silent.port)
    forge_server(path, backend, url)
    with pytest.raises(VectorIndexError) as caught:
        Index.open(path)
    for word in ("127.0.0.1", str(silent.port), "--url", "CL2CM_SERVERS"):
        assert word in str(caught.value)
    assert (silent.called, silent.heard) == (0, b"")


@pytest.mark.parametrize("seal", ["0" * 64, "", "é" * 64, 7, None, ["x"]])
def test_a_made_up_seal_is_none(tmp_path, backend, silent, seal):
    path = make_index(tmp_path / "evil")
    place = forge_server(path, backend, url_of(backend, silent.port))
    place.write_text(json.dumps({**json.loads(place.read_text()), "seal": seal}))
    files = head_of(path)["files"]
    files["place"]["bytes"] = place.stat().st_size
    write_head(path, files=files)
    with pytest.raises(VectorIndexError):
        Index.open(path)
    assert silent.called == 0


def test_updating_an_index_of_a_stranger_neither_connects_nor_drops(tmp_path, backend, silent):
    """Its place files are old, as if killed runs had left them, or its head names them."""
    path = make_index(tmp_path / "evil")
    place = forge_server(path, backend, url_of(backend, silent.port))
    orphan = shutil.copy(place, path / "place-11111111.json")
    for file in (place, orphan):
        os.utime(file, (0, 0))
    write_head(path, previous="place-11111111.json")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(b"a")
    from cl2cm.data.scan import scan_folder
    from cl2cm.index import BackendOptions

    with pytest.raises(VectorIndexError, match="a server that you allow"):
        update_index(Model(), scan_folder(pictures), path, run=tmp_path / "run")
    options = UpdateOptions(backend=BackendOptions("exact"))
    update_index(Model(), scan_folder(pictures), path, run=tmp_path / "run", options=options)
    assert (silent.called, silent.heard) == (0, b"")


def test_a_server_that_the_user_names_is_asked(tmp_path, backend, silent, monkeypatch):
    """The control: the same index does connect once the user says so."""
    path = make_index(tmp_path / "index")
    url = url_of(backend, silent.port)
    forge_server(path, backend, url)
    with pytest.raises(CL2CMError):
        Index.open(path, Allowed(url=url))
    assert silent.called >= 1
    before = silent.called
    monkeypatch.setenv("CL2CM_SERVERS", f"https://other.example {url}")
    with pytest.raises(CL2CMError):
        Index.open(path)
    assert silent.called > before
    monkeypatch.setenv("CL2CM_SERVERS", url_of(backend, 1))
    before = silent.called
    with pytest.raises(VectorIndexError, match="you allow"):
        Index.open(path)
    assert silent.called == before


def test_what_the_user_named_when_the_index_was_made_is_remembered_under_a_seal(
    tmp_path, backend, silent
):
    place = Location(backend, url_of(backend, silent.port), "cl2cm_0a", str(tmp_path))
    place.write(tmp_path / "place-0a.json")
    read = Location.read(tmp_path / "place-0a.json")
    assert (read.ours, read.server(Allowed(), str).url) == (True, place.url)
    for change in ({"url": url_of(backend, 1)}, {"name": "cl2cm_0b"}, {"folder": "/"}, {"cleartext": True}):  # fmt: skip
        value = json.loads((tmp_path / "place-0a.json").read_text())
        (tmp_path / "place-0a.json").write_text(json.dumps(value | change))
        assert not Location.read(tmp_path / "place-0a.json").ours
        (tmp_path / "place-0a.json").write_text(json.dumps(value))


def test_a_place_that_was_made_for_another_folder_is_not_dropped(tmp_path, monkeypatch):
    """Somebody got hold of one of our indexes, and sends its old place files back."""
    import cl2cm.index.generation

    dropped = []
    monkeypatch.setattr(cl2cm.index.generation, "drop", lambda place, server: dropped.append(place.name))  # fmt: skip
    for name in ("mine", "evil"):
        make_index(tmp_path / name)
    Location("pgvector", "host=h", "cl2cm_0a", str(tmp_path / "mine")).write(tmp_path / "mine/place-0a.json")  # fmt: skip
    shutil.copy(tmp_path / "mine/place-0a.json", tmp_path / "evil")
    for name in ("evil", "mine"):
        os.utime(tmp_path / name / "place-0a.json", (0, 0))
        make_index(tmp_path / name)
        assert dropped == ([] if name == "evil" else ["cl2cm_0a"])


@pytest.mark.parametrize(
    "change",
    [
        {"name": "cl2cm_x; DROP TABLE a"}, {"name": "cl2cm_"}, {"name": "pg_user"}, {"name": "cl2cm_é"},
        {"name": "cl2cm_" + "a" * 60}, {"name": "cl2cm_a\n"}, {"name": 3}, {"name": None}, {"url": 3},
        {"backend": "exact"}, {"more": "x"}, {"ours": True}, {"cleartext": "yes"}, {"folder": []},
    ],
)  # fmt: skip
def test_a_place_of_another_form_is_refused(tmp_path, change):
    value = {"backend": "pgvector", "url": "host=x", "name": "cl2cm_0a"} | change
    (tmp_path / "place-0a.json").write_text(json.dumps(value))
    with pytest.raises(VectorIndexError, match="damaged"):
        Location.read(tmp_path / "place-0a.json")


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 60_000, '"' + "x" * 2**17 + '"', "NaN"])
def test_a_place_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "place-0a.json").write_text(text)
    with pytest.raises(VectorIndexError, match="damaged"):
        Location.read(tmp_path / "place-0a.json")


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_place_that_is_no_file_is_refused(tmp_path, kind):
    path = tmp_path / "index" / "place-0a.json"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        Location("pgvector", "host=x", "cl2cm_0a").write(tmp_path / "real.json")
        path.symlink_to(tmp_path / "real.json")
    with pytest.raises(VectorIndexError, match="damaged"):
        Location.read(path)


# --- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("service=x", "service="), ("host=h passfile=/etc/passwd", "passfile="),
        ("host=h sslkey=/srv/key", "sslkey="), ("host=h sslcert=c", "sslcert="),
        ("host=h sslrootcert=c", "sslrootcert="), ("host=h options='-c x=y'", "options="),
        ("host=localhost hostaddr=10.0.0.1", "hostaddr="), ("host=localhost,evil.example", "several"),
        ("postgresql://a@localhost,evil.example/db", "several"), ("host=h port=1,2", "several"),
        ("postgresql://a@h/db?requirepeer=x", "requirepeer="), ("host=h krbsrvname=x", "krbsrvname="),
        ("host=h target_session_attrs=any", "target_session_attrs="),
        ("host=h gssencmode=disable", "gssencmode="), ("host=h dbname='host=evil'", "database"),
        ("host=h dbname=postgresql://evil/x", "database"), ("mysql://x", "no such address"),
        ("postgresql://h/db?servicefile=/x", ""),
    ],
)  # fmt: skip
def test_an_address_says_where_a_server_is_and_no_more(url, word):
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError) as caught:
        public_postgres(url)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("url", "environment", "mode"),
    [
        ("postgresql://a@localhost/db", {}, None),
        ("postgresql://a@127.0.0.1/db", {}, None),
        ("postgresql://a@[::1]/db", {}, None),
        ("postgresql://a@/db?host=/tmp/pg", {}, None),
        ("dbname=x", {}, None),
        ("postgresql://a@db.example/db", {}, "require"),
        ("postgresql://a@127.0.0.1.example/db", {}, "require"),
        ("postgresql://a@10.0.0.1/db", {}, "require"),
        ("postgresql://a@db.example/db?sslmode=verify-full", {}, "verify-full"),
        ("postgresql://a@db.example/db", {"PGSSLMODE": "verify-ca"}, "verify-ca"),
        ("dbname=x", {"PGHOST": "db.example"}, "require"),
        ("dbname=x", {"PGSERVICE": "far"}, "require"),
        ("host=localhost", {"PGHOSTADDR": "10.0.0.1"}, "require"),
        ("postgresql://a@db.example/db?sslmode=prefer", {}, "refused"),
        ("postgresql://a@db.example/db?sslmode=disable", {}, "refused"),
        ("postgresql://a@db.example/db", {"PGSSLMODE": "allow"}, "refused"),
    ],
)
def test_a_password_goes_to_another_machine_under_tls_only(monkeypatch, url, environment, mode):
    psycopg = pytest.importorskip("psycopg")
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if mode == "refused":
        with pytest.raises(ConfigError, match="--allow-cleartext"):
            postgres_address(Server(url))
    else:
        parts = psycopg.conninfo.conninfo_to_dict(postgres_address(Server(url)))
        assert parts.get("sslmode") == mode
    parts = psycopg.conninfo.conninfo_to_dict(postgres_address(Server(url, cleartext=True)))
    assert parts.get("sslmode") in (None, "prefer", "disable", "verify-full")


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://localhost:6333", False), ("http://127.9.9.9", False), ("http://[::1]:6333", False),
        ("https://q.example", False), ("http://q.example", True), ("http://127.0.0.1.q.example", True),
        ("http://127.0.0.1@q.example", True), ("http://localhost.q.example:6333", True),
    ],
)  # fmt: skip
def test_a_key_goes_to_another_machine_under_tls_only(url, refused):
    if refused:
        with pytest.raises(ConfigError, match="--allow-cleartext"):
            qdrant_address(Server(url), key=True)
    else:
        qdrant_address(Server(url), key=True)
    qdrant_address(Server(url), key=False)
    qdrant_address(Server(url, cleartext=True), key=True)


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://a b", "file:///etc/passwd", "http://x:99999", "//x"]
)  # fmt: skip
def test_an_address_of_qdrant_is_one(url):
    with pytest.raises(ConfigError):
        qdrant_address(Server(url), key=False)


def test_only_numbers_and_names_of_this_machine_are_loopback():
    assert all(is_loopback(host) for host in ("localhost", "LOCALHOST", "127.0.0.1", "::1", "127.8.8.8"))  # fmt: skip
    assert not any(is_loopback(host) for host in ("localhost.evil", "127.1.evil", "0.0.0.0", "", "::", "10.0.0.1"))  # fmt: skip


def test_a_redirect_does_not_take_the_key_along(tmp_path, monkeypatch):
    pytest.importorskip("qdrant_client")
    monkeypatch.setenv("QDRANT_API_KEY", "s3cret")
    with listening() as target:

        class Redirecting(Silent):
            def answer(self):
                there = f"http://127.0.0.1:{target.port}/"
                return f"HTTP/1.1 307 x\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n".encode()

        with listening(Redirecting) as first:
            path = make_index(tmp_path / "index")
            with pytest.raises(CL2CMError):
                make_index(path, backend="qdrant", url=f"http://127.0.0.1:{first.port}")
            assert b"s3cret" in first.heard
        assert target.called == 0


@pytest.mark.parametrize("allowed", ["option", "environment"])
def test_a_table_of_an_earlier_version_is_searched_once_the_user_names_its_server(
    tmp_path, postgres, monkeypatch, allowed
):
    """Its place has no seal: it is never dropped, and asked for only with the user's word."""
    path = make_index(tmp_path / "index", backend="pgvector", url=postgres)
    place = path / head_of(path)["files"]["place"]["name"]
    value = json.loads(place.read_text())
    del value["seal"], value["folder"], value["cleartext"]
    place.write_text(json.dumps(value))
    files = head_of(path)["files"]
    files["place"]["bytes"] = place.stat().st_size
    write_head(path, files=files, seal=..., roots=..., cleartext=...)
    with pytest.raises(VectorIndexError, match="you allow"):
        Index.open(path)
    if allowed == "environment":
        monkeypatch.setenv("CL2CM_SERVERS", postgres)
    opened = Index.open(path, Allowed(url=postgres) if allowed == "option" else None)
    assert len(opened.search(unit(1), 5, model="m")[0]) == 5
    for _ in range(2):
        make_index(path, url=postgres)
    assert place.exists()
    table = value["name"]
    found = opened._items._ask("SELECT tablename FROM pg_tables WHERE tablename = %s", [table])
    assert found == [(table,)]
    opened.close()


def test_our_own_table_is_searched_without_naming_its_server_again(tmp_path, postgres):
    path = make_index(tmp_path / "index", backend="pgvector", url=postgres)
    assert len(Index.open(path).search(unit(1), 5, model="m")[0]) == 5


@pytest.mark.parametrize("named", [True, False])
def test_what_the_environment_says_of_cleartext_holds_for_index_too(monkeypatch, named):
    from cl2cm.index import BackendOptions

    choice = BackendOptions("qdrant", url="http://q.example" if named else None)
    head = {"backend": "qdrant", "dtype": "float32", "url": "http://q.example"}
    monkeypatch.setenv("CL2CM_SERVERS", "http://q.example")
    assert not choice.resolve(head).server.cleartext
    monkeypatch.setenv("CL2CM_ALLOW_CLEARTEXT", "1")
    assert choice.resolve(head).server == Server("http://q.example", cleartext=True)
