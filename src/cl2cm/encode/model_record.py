"""``model.json``: where a converted model came from, and what its files hash to."""

from pathlib import Path
from typing import Any

from cl2cm.storage import read_record


def read_model_record(folder: Path) -> dict[str, Any] | None:
    """Return the ``model.json`` of a folder; None when it has none, or files of other sizes."""
    try:
        record = read_record(folder / "model.json")
        sizes = {name: (folder / name).stat().st_size for name in record["files"]}
        same = all(sizes[name] == file["bytes"] for name, file in record["files"].items())
        return record if same and {"format", "wheels"} <= set(record) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
