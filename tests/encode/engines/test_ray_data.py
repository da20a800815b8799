import importlib.util
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from cl2cm.cli.app import run
from cl2cm.encode.engines import ray_data
from cl2cm.encode.engines.ray_data import RayData
from cl2cm.encode.plan import plan_store
from cl2cm.encode.store_writing import write_planned
from cl2cm.errors import EncoderError, MediaError, MissingExtraError
from fixtures.slow_step import WIDTH, Step, hashes

COUNT = 22


def plan():
    return plan_store(
        [f"item {i}" for i in range(COUNT)], encoder="e", fingerprint="f" * 64, width=WIDTH,
        shard_items=2,
    )  # fmt: skip


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="pip install 'cl2cm[ray]'"
)


@needs_ray
def test_ray_writes_the_same_bytes_though_a_worker_is_killed(tmp_path, monkeypatch, capfd):
    seen, told = {}, []
    quieten = ray_data._quieten

    def look(ray):
        quieten(ray)
        (node,) = ray.nodes()
        seen.update(address=node["NodeManagerAddress"], cluster=ray.cluster_resources()["CPU"])
        seen.update({name: os.environ[name] for name in ray_data._private()})
        seen["folder"] = Path(node["ObjectStoreSocketName"]).parents[3]
        seen["there"] = seen["folder"].stat().st_mode & 0o777

    monkeypatch.setattr(ray_data, "_quieten", look)
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")  # never what is not on the command line
    (tmp_path / "log").mkdir()
    write_planned(tmp_path / "here", plan(), Step(tmp_path / "log", skips=5))
    for path in (tmp_path / "log").iterdir():
        path.unlink()
    step = Step(tmp_path / "log", skips=5, dies_at=8)
    write_planned(
        tmp_path / "ray", plan(), step, engine=RayData(2),
        on_failure=lambda *failure: told.append(failure),
    )  # fmt: skip
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "here")
    assert [(position, type(error)) for position, error in told] == [(5, MediaError)]
    assert len(list((tmp_path / "log").glob("8-*"))) == 2
    assert capfd.readouterr().out == ""
    assert seen["address"] == "127.0.0.1"
    assert (seen["RAY_USAGE_STATS_ENABLED"], seen["RAY_AUTH_MODE"]) == ("0", "token")
    assert len(seen["RAY_AUTH_TOKEN"]) == 64
    assert "RAY_AUTH_TOKEN" not in os.environ
    assert (seen["there"], seen["folder"].exists()) == (0o700, False)


def test_a_ray_of_this_machine_has_no_dashboard_and_writes_no_objects_to_disk():
    options = ray_data._here(2, "/somewhere")
    assert (options["include_dashboard"], options["dashboard_host"]) == (False, "127.0.0.1")
    assert options["_system_config"]["automatic_object_spilling_enabled"] is False
    assert options["address"] == "local"


def ray_that_takes_sigterm(monkeypatch, error=None):
    def init(**_options):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler_of_ray)
        if error:
            raise error

    fake = SimpleNamespace(init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.data", fake)


def handler_of_ray(*_):
    raise AssertionError("Ray was told to end")


@pytest.fixture
def sigterm():
    before = signal.getsignal(signal.SIGTERM)
    yield lambda handler: signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGTERM, before)


needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="Ray takes SIGBREAK there")


@needs_posix
def test_a_handler_of_sigterm_is_kept(sigterm, monkeypatch):
    ray_that_takes_sigterm(monkeypatch)
    for own in (lambda *_: None, signal.SIG_IGN):
        sigterm(own)
        with ray_data._running(1, ""):
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGTERM) is own


@needs_posix
def test_the_default_of_sigterm_returns_with_the_end_of_ray(sigterm, monkeypatch):
    sigterm(signal.SIG_DFL)
    ray_that_takes_sigterm(monkeypatch)
    with ray_data._running(1, ""):
        assert signal.getsignal(signal.SIGTERM) is handler_of_ray  # it ends Ray's processes first
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ray_that_takes_sigterm(monkeypatch, RuntimeError("no memory"))
    with pytest.raises(EncoderError, match="no memory"), ray_data._running(1, ""):
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@needs_posix
def test_ray_starts_in_a_thread_too(monkeypatch):
    def start():  # where Python installs no handlers
        with ray_data._running(1, ""):
            pass

    ray_that_takes_sigterm(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(start).result()


def test_without_ray_the_install_line_is_told(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"cl2cm.ray."):
        RayData(2)


def test_the_worker_returns_errors_as_data_and_tries_again(tmp_path, monkeypatch):
    """As Ray calls it, without Ray."""
    (tmp_path / "log").mkdir()

    class Passes:
        @staticmethod
        def get(step):
            return step

    monkeypatch.setitem(sys.modules, "ray", Passes)
    row = {"number": 3, "start": 4, "stop": 6}
    worker = ray_data._Worker(Step(tmp_path / "log", fails_at=4, times=2, skips=5), 1)
    rows = ray_data._packed(worker(row))
    assert rows.lengths.tolist() == [1, 0]
    ((place, error),) = rows.failures
    assert (place, type(error), str(error)) == (5, MediaError, "x: expected a, found b; c")
    worker = ray_data._Worker(Step(tmp_path / "log", fails_at=4, times=9), 1)
    with pytest.raises(EncoderError, match=r"shard 3: .* 3 attempts, found ConnectionError"):
        ray_data._packed(worker(row))


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line(small, tmp_path, capsys):
    words = ["encode", str(small.manifest.parent / "images"), "--encoder", f"onnx:{small.vision}"]
    words += ["--out", str(tmp_path / "s"), "--engine", "ray", "--address", "no-address"]
    assert run(words) == 2
    assert "error: Ray at no-address: expected workers" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
