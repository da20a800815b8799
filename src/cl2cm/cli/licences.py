"""The command ``licences``: what a model or a manifest was made from, and under which licences."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cl2cm.cli.options import Json, show
from cl2cm.errors import ConfigError
from cl2cm.types import is_model_spec

if TYPE_CHECKING:
    from cl2cm.training.licences import Owed


class Found(NamedTuple):
    """kind: run, export, index, manifest or model; recorded: by the training, not looked up now."""

    kind: str
    recorded: bool
    items: "list[Owed]"


def licences(
    path: Annotated[
        str, typer.Argument(help="Run, export, index or manifest, or off-the-shelf model hf:MODEL.")
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest of a run that was trained with an earlier version."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what a model was made from, with licences.

    The list covers weights, data sets and translation engines. A licence that was not recorded is
    listed as unknown.
    """
    found = find_licences(path, manifest)
    unknown = sum(item.is_unknown for item in found.items)
    result = {
        "path": path,
        "kind": found.kind,
        "recorded": found.recorded,
        "licences": [item._asdict() for item in found.items],
        "unknown": unknown,
    }
    show(result, as_json=as_json, lines=licence_lines(found, unknown))


def find_licences(path: str, manifest: Path | None = None) -> Found:
    """Return what a model or manifest was made from.

    Args:
        path: of a run, export, index or manifest, or ``hf:MODEL``.
        manifest: what a run was trained on, if the run has no record of its own.

    Raises:
        ConfigError: nothing of these.
        CL2CMError: it is damaged, or the run of an index cannot be found.
    """
    from cl2cm.export.contract import is_export, read_contract
    from cl2cm.index.media import run_of
    from cl2cm.index.metadata import METADATA, read_metadata
    from cl2cm.model.run_folder import read_provenance, read_run
    from cl2cm.training.licences import Owed, of_manifest, owed_by, read_back, weights

    folder = Path(path)
    if is_model_spec(path):
        return Found("model", False, list(weights(path, "model")))
    if is_export(folder):
        rows = read_contract(folder).get("licences")
        nothing = [Owed("run", "unknown", "", "unknown", "exported before licences were recorded")]
        return Found("export", rows is not None, read_back(rows) or nothing)
    if (folder / METADATA).is_file():
        made_with = str(run_of(folder, read_metadata(folder)))
        return find_licences(made_with, manifest)._replace(kind="index")
    if (folder / "config.toml").is_file():
        provenance = read_provenance(folder)
        rows = provenance.get("licences")
        if recorded := read_back(rows):
            return Found("run", True, recorded)
        config, _ = read_run(folder)
        return Found("run", False, owed_by(config, provenance, manifest, initial=False))
    if folder.is_file() and folder.name.endswith((".jsonl", ".jsonl.gz")):
        return Found("manifest", False, of_manifest(folder))
    raise ConfigError(
        path,
        expected="a run, export, index or manifest, or hf:MODEL",
        found="something else" if folder.exists() else "no such file or folder",
        remedy="pass the folder of a run, such as runs/mine",
    )


def licence_lines(found: Found, unknown: int) -> list[str]:
    """Return the list as lines of text."""
    lines = []
    for item in found.items:
        lines.append(f"{item.part}: {item.name}{item.version and ' '}{item.version}")
        lines.append(f"    licence: {item.licence}")
        if item.source:
            lines.append(f"    source:  {item.source}")
    if not found.recorded and any(item.name == "unknown" for item in found.items):
        lines.append("This run has no record of licences; pass --manifest to look up its data.")
    if unknown:
        lines.append(f"{unknown} of {len(found.items)} licences are unknown: ask the authors.")
    return lines
