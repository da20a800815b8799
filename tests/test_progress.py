"""Progress where standard error is no terminal: lines, now and then."""

import ast
import json
from pathlib import Path

import pytest

import cl2cm.progress
from cl2cm.progress import plain, plain_json, say, track


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


STEERING = [
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x07", "\x08", "\r", "\n", "\x00", "\x7f", "\x85",
    "\u202e", "\u2066", "\u2069", "\u2028", "\ud800",
]  # fmt: skip
LEGITIMATE = [
    "عربي", "עברית \u200f", "می\u200cخواهم", "\U0001f468\u200d\U0001f469", "日本語\u3000", "a\u00a0b", "e\u0301", "\t",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
]  # fmt: skip


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_a_terminal_is_shown_as_an_escape(text, capsys):
    say(f"a{text}b")
    (line,) = lines(capsys)
    assert line.isascii()
    assert line.startswith("a\\")
    assert line.endswith("b")
    value = {"x": f"a{text}b"}
    found = plain_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(found) == value
    assert found.isascii()


@pytest.mark.parametrize("text", LEGITIMATE)
def test_every_other_text_stays_as_it_is(text, capsys):
    assert plain(text) == text
    assert plain_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


def test_nothing_but_progress_and_the_command_line_prints():
    """News go through `say` and `track`; results are printed by ``cli/``."""
    source = Path(cl2cm.progress.__file__).parent
    printing = {"print", "sys.stdout", "sys.stderr", "Console(stderr=True)", "Console()"}
    for path in source.rglob("*.py"):
        if path == source / "progress.py" or path.is_relative_to(source / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name | ast.Attribute | ast.Call):
                assert ast.unparse(node) not in printing, path
