"""docs/security.md names code and tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    line.strip("|").split("|")
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and "`" in line and ".py`" in line
]


def named(cell):
    return re.findall(r"`([a-z0-9_/]+\.py)`", cell)


def test_every_promise_names_its_code_and_its_test():
    assert len(ROWS) >= 20
    for _, _, where, test in ROWS:
        assert named(where), where
        assert all((ROOT / "src" / "cl2cm" / path).is_file() for path in named(where)), where
        assert named(test), test
        assert all((ROOT / "tests" / path).is_file() for path in named(test)), test
