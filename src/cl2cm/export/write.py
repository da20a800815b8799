"""A run becomes an export: graphs, tokenizer, contract with its measurements, and card."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokenizer_limits import open_tokenizer
from cl2cm.errors import ConfigError, ExportError
from cl2cm.export.card import card
from cl2cm.export.contract import CONTRACT, FORMAT, KIND, is_export
from cl2cm.export.graphs import text_graph, vision_graph
from cl2cm.export.model import ExportedModel, load_export
from cl2cm.export.parity import Parity, check, measure
from cl2cm.export.precision import PRECISIONS, Precision, at_precision
from cl2cm.model.checkpoint import load
from cl2cm.model.contract import CONTRACT_TEXTS
from cl2cm.model.retrieval import RetrievalModel
from cl2cm.model.run_folder import read_provenance, read_run
from cl2cm.progress import say
from cl2cm.storage import atomic_folder, sha256_file, sha256_text, write_json
from cl2cm.text import NORMAL_FORM
from cl2cm.types import Example, SearchModel, StrPath

INLINE = 2**20  # bytes; larger weights are in a file of their own, which is mapped, not copied

Recall = Callable[[SearchModel], Mapping[str, float]]  # language → SumR


class Exported(NamedTuple):
    """What was written, and what was measured.

    path: the folder; precision: of the text side; size: bytes of all files; parity: differences to
    the run; recall: language → SumR of the run and of the export, where a manifest was given.
    """

    path: Path
    precision: str
    size: int
    parity: Parity
    recall: dict[str, dict[str, float]]


def export_run(
    run: StrPath,
    out: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    vision_precision: str = "fp32",
    examples: Sequence[Example] = (),
    recall: Recall | None = None,
) -> list[Exported]:
    """Write a run as ONNX graphs, at one precision or several.

    Args:
        run: the run folder.
        out: folder to make, or to replace if it is an export; with several precisions each has a
            folder of its own in it.
        precisions: of the text side: fp32, fp16 or int8.
        vision_precision: of the vision side; other than fp32, its vectors need an index of their
            own.
        examples: of a manifest, whose captions and images are compared with the run, too.
        recall: measures a model.

    Raises:
        CheckpointError: no finished run, or a damaged one.
        ConfigError: no such precision, or a folder of something else.
        ExportError: what was written differs from the run; nothing is kept.
    """
    wanted = [_precision(name) for name in precisions]
    of_vision = _precision(vision_precision)
    folders = [out / name if len(wanted) > 1 else out for name in wanted]
    for folder in folders:
        _check_place(folder)
    model = load(run)
    if not isinstance(model.backbone, TextBackbone):
        raise ConfigError(
            str(run),
            expected="a run of cl2cm train",
            found="an off-the-shelf model",
            remedy="train on top of it, or use it directly: cl2cm index hf:MODEL",
        )
    say("tracing the text side and the vision side")
    graphs = text_graph(model), at_precision(vision_graph(model), of_vision)
    before = dict(recall(model)) if recall is not None else {}
    made = []
    for folder, precision in zip(folders, wanted, strict=True):
        with atomic_folder(folder) as partial:
            lowered = at_precision(graphs[0], precision), graphs[1]
            _write_sides(partial, lowered, model)
            contract = _contract(model, Path(run), partial, (precision, of_vision))
            parity, after = _measured(partial, contract, model, examples, recall)
            losses = {
                language: {
                    "run": before[language],
                    "export": score,
                    "loss": before[language] - score,
                }
                for language, score in after.items()
            }
            contract |= {"parity": parity._asdict(), "recall": losses}
            provenance = read_provenance(Path(run))
            (partial / "card.md").write_text(card(contract, provenance), encoding="utf-8")
            write_json(partial / CONTRACT, contract)
            load_export(partial)  # as whoever opens it will
            size = sum(file.stat().st_size for file in partial.iterdir())
        made.append(Exported(folder, precision, size, parity, losses))
    return made


def _measured(
    folder: Path,
    contract: dict[str, Any],
    model: RetrievalModel,
    examples: Sequence[Example],
    recall: Recall | None,
) -> tuple[Parity, Mapping[str, float]]:
    """Compare what was written with the run; the contract gets its examples."""
    export = ExportedModel(folder, contract)
    vectors = export.encode_text(CONTRACT_TEXTS)
    contract["examples"] = [
        {"text": text, "ids": export.reader.ids(text), "vector": [round(float(x), 6) for x in row]}
        for text, row in zip(CONTRACT_TEXTS, vectors, strict=True)
    ]
    for example, ids in zip(contract["examples"], model.query_ids(CONTRACT_TEXTS), strict=True):
        if example["ids"] != ids:
            raise ExportError(
                f"tokens of {example['text']!r}",
                expected=f"those of the run, {ids}",
                found=f"{example['ids']}",
                remedy="export with the transformers and tokenizers versions of the run",
            )
    say(f"comparing the {contract['text']['precision']} export with the run")
    parity = measure(model, export, examples)
    exact = [contract[side]["precision"] == "fp32" for side in ("text", "vision")]
    check(parity, str(folder), text_exact=exact[0], vision_exact=exact[1])
    return parity, recall(export) if recall is not None else {}


def _write_sides(folder: Path, graphs: tuple[Any, Any], model: RetrievalModel) -> None:
    import onnx  # noqa: PLC0415 - heavy

    for name, graph in zip(("text", "vision"), graphs, strict=True):
        copy = onnx.ModelProto()
        copy.CopyFrom(graph)  # saving takes the weights out of what it saves
        onnx.save_model(
            copy,
            folder / f"{name}.onnx",
            save_as_external_data=True,
            location=f"{name}.weights",
            size_threshold=INLINE,
        )
    path = folder / "tokenizer.json"
    path.write_text(model.backbone.tokenizer_json(), encoding="utf-8")
    try:
        open_tokenizer(path)
    except ValueError as error:
        raise ExportError(
            "tokenizer.json", expected="a bounded tokenizer", found=str(error), remedy="use another"
        ) from None


def _contract(
    model: RetrievalModel, run: Path, folder: Path, precisions: tuple[str, str]
) -> dict[str, Any]:
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
        "translates_queries_to": _source_of_translations(run),
        "licences": read_provenance(run).get("licences"),
        "lineage": {
            "run": model.fingerprint,
            "backbone": backbone.fingerprint,
            "vision": vision.fingerprint,
            "method": read_provenance(run).get("method", ""),
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
        "pooling": "masked mean, in the graph",
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


def _source_of_translations(run: Path) -> str:
    """Return the source language of a run whose method translates queries; "" of any other."""
    if not read_provenance(run).get("translates_queries"):
        return ""
    return read_run(run)[0].data.source


def _precision(name: str) -> Precision:
    for known in PRECISIONS:
        if name == known:
            return known
    raise ConfigError(
        "--precision", expected=", ".join(PRECISIONS), found=repr(name), remedy="choose one"
    )


def _check_place(folder: Path) -> None:
    """Refuse a folder that holds something else."""
    if folder.exists() and not is_export(folder) and (folder.is_file() or any(folder.iterdir())):
        raise ConfigError(
            str(folder),
            expected="a new folder, or an export to replace",
            found="something else",
            remedy="choose another folder",
        )
