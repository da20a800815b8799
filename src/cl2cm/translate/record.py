"""The file ``NAME.translations.json``: the provenance of a manifest's translations.

``columns`` has, by language and column, the engine with version and licence, the number of
distinct texts and how many of them it left empty; ``quality`` says how scores were made;
``dataset`` names the data set that ``prepare`` made the first manifest of.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cl2cm.data.manifest import write_manifest
from cl2cm.errors import ManifestError
from cl2cm.storage import read_record, sha256_file, write_record
from cl2cm.types import Example

FORMAT = 1


def record_path(manifest: Path) -> Path:
    """Return where the record of a manifest's translations is."""
    stem = manifest.name.removesuffix(".gz").removesuffix(".jsonl")
    return manifest.with_name(f"{stem}.translations.json")


def read_translation_record(manifest: Path) -> dict[str, Any]:
    """Return the record beside a manifest; an empty one where there is none.

    Raises:
        ManifestError: it is damaged.
    """
    path = record_path(manifest)
    if not path.exists():
        return {"format": FORMAT, "columns": {}}
    try:
        value = read_record(path)
        if value["format"] == FORMAT and isinstance(value["columns"], dict):
            return dict(value)
        found = "another format"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        found = "a damaged file"
    raise ManifestError(
        str(path),
        expected=f"a record of translations, format {FORMAT}",
        found=found,
        remedy="remove it",
    )


def write_out(
    out: Path,
    examples: Sequence[Example],
    record: Mapping[str, Any],
    accounts: Iterable[Mapping[str, Any]],
    *,
    source: str,
    quality: Mapping[str, Any] | None,
) -> None:
    """Write the manifest and its record, each whole or not at all."""
    told = {language: dict(by) for language, by in record["columns"].items()}
    kept = ("engine", "version", "licence", "texts", "empty")
    for account in accounts:
        by_name = told.setdefault(account["language"], {})
        by_name[account["column"]] = {key: account[key] for key in kept}
    made = {**record, "format": FORMAT, "source": source, "columns": told}
    if quality is not None:
        made["quality"] = quality
    write_manifest(out, examples, source=source)
    write_record(record_path(out), {**made, "manifest_sha256": sha256_file(out)})
