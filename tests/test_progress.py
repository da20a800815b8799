"""Progress where standard error is no terminal: lines, now and then."""

import pytest

import cl2cm.progress
from cl2cm.progress import track


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(cl2cm.progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_lines_come_now_and_then_with_rate_and_time_left(clock, capsys):
    with track("encode", 1000) as advance:
        advance(10)
        assert lines(capsys) == []
        clock[0] += 20
        advance(90)
        assert lines(capsys) == ["encode: 100/1000 (5.0/s, 3 min left)"]
        clock[0] += 5
        advance(100)
        assert lines(capsys) == []
        clock[0] += 75
        advance(800)
        assert lines(capsys) == ["encode: 1000/1000 (10.0/s)"]


def test_slow_work_says_how_long_each_takes(clock, capsys):
    with track("runs", 3) as advance:
        clock[0] += 40
        advance(1)
        assert lines(capsys) == ["runs: 1/3 (40.0 s each, 80 s left)"]


def test_nothing_done_is_no_rate(clock, capsys):
    with track("index", 5) as advance:
        clock[0] += 11
        advance(0)
        assert lines(capsys) == ["index: 0/5"]
    with track("index", 0) as advance:
        advance(0)
        assert lines(capsys) == ["index: 0/0"]
