import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cl2cm.encode.engines.processes import Processes
from cl2cm.encode.plan import plan_store
from cl2cm.encode.store_writing import write_planned
from cl2cm.errors import EncoderError, MediaError
from fixtures.slow_step import WIDTH, Step, hashes

COUNT = 22


def plan():
    return plan_store(
        [f"item {i}" for i in range(COUNT)], encoder="e", fingerprint="f" * 64, width=WIDTH,
        shard_items=2, contents=[f"state {i}" for i in range(COUNT)],
    )  # fmt: skip


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


@pytest.fixture
def expected(tmp_path, log):
    write_planned(tmp_path / "here", plan(), Step(log, skips=5))
    for path in log.iterdir():
        path.unlink()
    return hashes(tmp_path / "here")


def test_two_processes_write_the_same_bytes_and_report_what_is_left_out(tmp_path, log, expected):
    told = []
    write_planned(
        tmp_path / "s", plan(), Step(log, skips=5), engine=Processes(2),
        on_failure=lambda *failure: told.append(failure),
    )  # fmt: skip
    assert hashes(tmp_path / "s") == expected
    processes = {path.name.split("-")[1] for path in log.iterdir()}
    assert str(os.getpid()) not in processes
    assert len(list(log.iterdir())) == COUNT // 2  # each shard once
    assert [(position, type(error)) for position, error in told] == [(5, MediaError)]


def test_workers_that_are_killed_or_fail_cost_nothing_but_time(tmp_path, log, expected):
    step = Step(log, skips=5, dies_at=8, fails_at=14, times=2)
    write_planned(tmp_path / "s", plan(), step, engine=Processes(2))
    assert hashes(tmp_path / "s") == expected
    assert len(list(log.glob("8-*"))) == len(list(log.glob("14-*"))) == 3  # the third attempt
    assert len(list(log.iterdir())) == COUNT // 2 + 4  # of the others none was repeated


def test_a_shard_that_fails_every_time_ends_the_command_which_resumes(tmp_path, log, expected):
    step = Step(log, skips=5, dies_at=8, times=3)
    with pytest.raises(EncoderError, match=r"shard 4: expected .* 3 attempts, found .*signal 9"):
        write_planned(tmp_path / "s", plan(), step, engine=Processes(1))
    assert len(list((tmp_path / "s").glob("*.shard.json"))) == 4
    write_planned(tmp_path / "s", plan(), Step(log, skips=5))
    assert hashes(tmp_path / "s") == expected
    assert [len(list(log.glob(f"{first}-*"))) for first in (0, 6, 8, 10)] == [1, 1, 4, 1]


CHILD = """
import pathlib, sys
from cl2cm.encode.engines.processes import Processes
from fixtures.slow_step import Step
import time

class Waits(Step):
    def __call__(self, positions):
        super().__call__(positions)
        time.sleep(0.5)  # the parent is killed meanwhile

if __name__ == "__main__":
    list(Processes(1)(Waits(sys.argv[1]), [(0, [0])]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="its processes are not in /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path, log):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    parent = subprocess.Popen([sys.executable, script, log], env=environment())
    pids = wait_for(lambda: {int(path.name.split("-")[1]) for path in log.iterdir()}, 1)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: {pid for pid in pids if not alive(pid)}, 1)


def environment():
    paths = [path for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def wait_for(found, count, seconds=60):
    end = time.monotonic() + seconds
    while len(found()) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return found()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
