"""What the contract of an export says of its model: how it is fed, and what it was made from."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.encode.clip.catalogue import MODELS
from cl2cm.encode.clip.pairs import parse_pair
from cl2cm.export.contract import FORMAT, KIND
from cl2cm.export.origins import Origins, origins_of
from cl2cm.model.retrieval import RetrievalModel
from cl2cm.model.run_folder import read_provenance, read_run
from cl2cm.storage import sha256_file, sha256_text
from cl2cm.text import NORMAL_FORM
from cl2cm.types import StrPath, is_model_spec


class About(NamedTuple):
    """What is known of a model beside its weights.

    provenance: of the run; empty for an off-the-shelf model; origins: for the card;
    translates_to: source language of a run whose method translates queries, or "".
    """

    provenance: Mapping[str, Any]
    origins: Origins
    translates_to: str = ""


def about(run: StrPath) -> About:
    """Return what a run, or the name of an off-the-shelf model, says of itself."""
    if is_model_spec(run):
        pair = parse_pair(str(run))
        known = {model.spec: model.licence for model in MODELS}
        licence = known.get(str(run), "licence: see its card")
        sides = dict.fromkeys((pair.image, pair.text or pair.image))
        lines = tuple(f"{side} ({licence})" for side in sides)
        about_sides = [
            {"part": "model", "name": side, "licence": licence, "source": "Hugging Face hub"}
            for side in sides
        ]
        made = {"method": "none: an off-the-shelf model", "licences": about_sides}
        return About(made, Origins(backbones=lines))
    config, provenance = read_run(Path(run))[0], read_provenance(Path(run))
    source = config.data.source if provenance.get("translates_queries") else ""
    return About(provenance, origins_of(config, provenance), source)


def contract_of(
    model: RetrievalModel, known: About, folder: Path, precisions: tuple[str, str]
) -> dict[str, Any]:
    """Return the contract of an export, without what is measured.

    Args:
        model: the run, shortened where the export is.
        known: of it.
        folder: with the files.
        precisions: of the text side and of the vision side.
    """
    backbone, vision = model.backbone, model.vision
    space = model.fingerprint
    if precisions[1] != "fp32":
        space = sha256_text(f"{space} vision {precisions[1]}")
    return {
        "kind": KIND,
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.fingerprint,
        "fingerprint": space,
        "dim": model.dim,
        "translates_queries_to": known.translates_to,
        "licences": known.provenance.get("licences"),
        "lineage": {
            "run": known.provenance.get("model", model.fingerprint),
            "backbone": backbone.fingerprint,
            "vision": vision.fingerprint,
            "method": known.provenance.get("method", ""),
        },
        "text": _text_side(model, precisions[0]),
        "vision": _vision_side(model, precisions[1]),
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
            for path in sorted(folder.iterdir())
        },
    }


def _text_side(model: RetrievalModel, precision: str) -> dict[str, Any]:
    """Return how texts are prepared, and what the text graph takes and gives."""
    backbone = model.backbone
    return {
        "precision": precision,
        "inputs": {"ids": "int64 [B, T]", "mask": "bool [B, T], True on tokens"},
        "output": "float32 [B, D], unit length",
        "pad": backbone.special.pad,
        "prefix": backbone.prefix,
        "lower_case": backbone.lower_case,
        "max_tokens": backbone.max_tokens,
        "normalisation": NORMAL_FORM,
        "case": model.case,
        "order": "remove, normalise, case, put the prefix before, lower the case, tokenise",
        "pooling": "in the graph",
        "tokenizer": backbone.tokenizer_hash,
    }


def _vision_side(model: RetrievalModel, precision: str) -> dict[str, Any]:
    """Return how frames are prepared, and what the vision graph takes and gives."""
    vision = model.vision
    how = getattr(vision, "preprocess", None)  # stored features have none
    sampling = getattr(vision, "sampling", None)
    return {
        "precision": precision,
        "input": "pixels" if how is not None else "features",
        "inputs": {
            "frames": "uint8 [B, F, size, size, 3], red green blue"
            if how is not None
            else f"float32 [B, F, {vision.width}], features of {vision.name}",
            "mask": "bool [B, F], True on frames",
        },
        "output": "float32 [B, D], unit length",
        "preprocess": None
        if how is None
        else {
            "size": how.size,
            "shorter_side": how.shorter_side,
            "resample": how.resample,
            "stretch": bool(getattr(how, "stretch", False)),
        },
        "sampling": {
            "kind": getattr(sampling, "kind", "uniform"),
            "frames": getattr(sampling, "frames", 16),
            "fps": getattr(sampling, "fps", 2.0),
        },
    }
