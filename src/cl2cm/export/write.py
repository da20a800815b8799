"""A model becomes an export: graphs, tokenizer, contract with its measurements, and card."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.encode.clip.text import TextSide
from cl2cm.encode.tokenizer_limits import open_tokenizer
from cl2cm.errors import ConfigError, ExportError
from cl2cm.export.card import card
from cl2cm.export.contract import CONTRACT, is_export
from cl2cm.export.describe import about, contract_of
from cl2cm.export.graphs import text_graph, vision_graph
from cl2cm.export.model import ExportedModel, load_export
from cl2cm.export.parity import Parity, check, measure
from cl2cm.export.precision import PRECISIONS, Precision, at_precision
from cl2cm.index.shortened import shortened
from cl2cm.model.checkpoint import load
from cl2cm.model.contract import CONTRACT_TEXTS
from cl2cm.model.retrieval import RetrievalModel
from cl2cm.model.run_folder import read_run
from cl2cm.progress import say
from cl2cm.storage import atomic_folder, write_json
from cl2cm.text import in_case, normalise
from cl2cm.types import Example, SearchModel, StrPath, is_model_spec

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
    dim: int = 0,
    examples: Sequence[Example] = (),
    recall: Recall | None = None,
) -> list[Exported]:
    """Write a run as ONNX graphs, at one precision or several.

    Args:
        run: the run folder, or an off-the-shelf model: ``hf:MODEL``.
        out: folder to make, or to replace if it is an export; with several precisions each has a
            folder of its own in it.
        precisions: of the text side: fp32, fp16 or int8.
        vision_precision: of the vision side; other than fp32, its vectors need an index of their
            own.
        dim: width of the vectors, of which the rest is left out; 0: all. Fewer need an index of
            their own.
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
    loaded = load(run)
    model = shortened(loaded, dim)
    _say_untrained(run, dim, loaded.dim)
    say("tracing the text side and the vision side")
    graphs = text_graph(loaded, dim=dim), at_precision(vision_graph(loaded, dim=dim), of_vision)
    before = dict(recall(loaded)) if recall is not None else {}
    known = about(run)
    made = []
    for folder, precision in zip(folders, wanted, strict=True):
        with atomic_folder(folder) as partial:
            lowered = at_precision(graphs[0], precision), graphs[1]
            _write_sides(partial, lowered, model)
            contract = contract_of(model, known, partial, (precision, of_vision))
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
            words = card(contract, known.provenance, known.origins)
            (partial / "card.md").write_text(words, encoding="utf-8")
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
    wanted = unpadded_ids(model, CONTRACT_TEXTS)
    for example, ids in zip(contract["examples"], wanted, strict=True):
        if example["ids"] != ids:
            raise ExportError(
                f"tokens of {example['text']!r}",
                expected=f"the tokens of the run, {ids}",
                found=f"{example['ids']}",
                remedy="export with the transformers and tokenizers versions of the run",
            )
    say(f"comparing the {contract['text']['precision']} export with the run")
    parity = measure(model, export, examples)
    exact = [contract[side]["precision"] == "fp32" for side in ("text", "vision")]
    check(parity, str(folder), text_exact=exact[0], vision_exact=exact[1])
    return parity, recall(export) if recall is not None else {}


def unpadded_ids(model: RetrievalModel, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of queries; the graph pads, where all texts are of one length."""
    written = [in_case(normalise(text), model.case) for text in texts]
    backbone: Any = model.backbone
    if isinstance(backbone, TextSide):
        return backbone.ids(written)
    ids: list[list[int]] = backbone.tokenize(written)
    return ids


def _say_untrained(run: StrPath, dim: int, whole: int) -> None:
    """Say that prefixes of a width were not trained."""
    if dim in (0, whole):
        return
    smallest = 0 if is_model_spec(run) else read_run(Path(run))[0].match.smallest_dim
    if not smallest or dim < smallest:
        say(
            f"the model was not trained for vectors of {dim} numbers; measure the loss with "
            "--manifest, or train with match.smallest_dim"
        )


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
