"""A run as a folder for the Hugging Face hub.

README.md                     model card
config.json, model.safetensors, tokenizer.json, …   the text backbone, for Transformers
modules.json, 1_Dense, …      the text side, for sentence-transformers
cl2cm                         the export with both sides, for cl2cm and onnxruntime
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cl2cm.encode.pretrained import no_progress_bars
from cl2cm.encode.steps import text_states
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.errors import ConfigError
from cl2cm.export.card import card
from cl2cm.export.contract import read_contract
from cl2cm.export.describe import About, about
from cl2cm.export.hub.check import check, encode
from cl2cm.export.hub.modules import Modules
from cl2cm.export.hub.tokenizer import write_tokenizer
from cl2cm.export.parity import parity_texts
from cl2cm.export.write import Exported, Recall, export_run
from cl2cm.index.shortened import shortened
from cl2cm.model.checkpoint import load
from cl2cm.model.contract import CONTRACT_TEXTS
from cl2cm.model.encoders import NOT_OPENED
from cl2cm.model.networks import Head
from cl2cm.model.retrieval import RetrievalModel
from cl2cm.model.run_folder import read_run
from cl2cm.progress import say
from cl2cm.storage import atomic_folder, write_json
from cl2cm.text import in_case, normalise
from cl2cm.types import Example, StrPath, is_model_spec

INSIDE = "cl2cm"  # folder of the export
USE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("OWNER/NAME")
vectors = model.encode(["a dog in the snow", "ein Hund im Schnee"])
```

No code of this repository is run. The export in `cl2cm/` encodes images into the same space:

```python
import cl2cm

model = cl2cm.load("FOLDER/cl2cm")
scores = vectors @ model.encode_images(["dog.jpg"]).T
```
"""


class Hub(NamedTuple):
    """What was written: the folder, its export, and the largest difference of a text's vector."""

    path: Path
    export: Exported
    difference: float


def export_hub(
    run: StrPath,
    out: Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    dim: int = 0,
    vision_precision: str = "fp32",
    examples: Sequence[Example] = (),
    recall: Recall | None = None,
) -> Hub:
    """Write a run as a Hugging Face folder.

    Args:
        run: the run folder.
        out: folder to make, or to replace if it is one of these.
        precisions: one, of the text side of the export inside; what sentence-transformers loads is
            fp32.
        dim: as for `export_run`.
        vision_precision: as for `export_run`.
        examples: as for `export_run`.
        recall: as for `export_run`.

    Raises:
        CheckpointError: no finished run, or a damaged one.
        ConfigError: a folder of something else, several precisions, or a run with adapters.
        ExportError: what was written differs from the run; nothing is kept.
    """
    _check_place(out)
    if is_model_spec(run):
        raise ConfigError(
            str(run),
            expected="a run with --layout hf",
            found="an off-the-shelf model",
            remedy="publish the model as it is, or export it without --layout",
        )
    if len(precisions) > 1:
        raise ConfigError(
            "--precision",
            expected="one precision with --layout hf",
            found=", ".join(precisions),
            remedy="choose one",
        )
    added = read_run(Path(run), NOT_OPENED)[0].network.adapters
    if added:
        raise ConfigError(
            str(run),
            expected="a run without adapters with --layout hf",
            found=f"adapters for {', '.join(added)}, of add-language",
            remedy="export it without --layout",
        )
    with atomic_folder(out) as partial:
        (made,) = export_run(
            run,
            partial / INSIDE,
            precisions=precisions,
            dim=dim,
            vision_precision=vision_precision,
            examples=examples,
            recall=recall,
        )
        model = load(run)
        texts = _texts(model, examples)
        say("writing the text side for sentence-transformers")
        write_text_side(partial, model, texts, dim=dim)
        wanted = shortened(model, dim).encode_text(texts)
        difference = check(encode(partial, texts), wanted, str(out))
        _write_card(partial, Path(run), difference)
        size = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    return Hub(out, made._replace(path=out, size=size), difference)


def write_text_side(
    folder: Path, model: RetrievalModel, texts: Sequence[str], *, dim: int = 0
) -> None:
    """Write the text side of a model as modules of sentence-transformers.

    Args:
        folder: where.
        model: of a run.
        texts: that the numbers of the head's layers are scaled by.
        dim: width of the vectors; 0: the model's.
    """
    backbone, head = model.backbone, model.student.text
    assert isinstance(backbone, TextBackbone)  # noqa: S101 - export_run refused others
    assert isinstance(head, Head)  # noqa: S101
    with no_progress_bars():
        backbone.model.save_pretrained(folder)
    write_tokenizer(folder, backbone)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": backbone.max_tokens})
    prompts = {"query": backbone.prefix, "document": backbone.prefix}
    about = {"prompts": prompts, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    write_json(folder / "config_sentence_transformers.json", about)
    few = texts[:: max(1, len(texts) // 64)]
    tokens = pad_tokens(model.query_ids(few), backbone.special)
    states = text_states(backbone, tokens)
    modules = Modules(folder, max_tokens=backbone.max_tokens)
    modules.write_head(head, states.values, states.mask, dim=dim or model.dim)
    modules.finish()


def _texts(model: RetrievalModel, examples: Sequence[Example]) -> list[str]:
    """Return texts to compare, written as the run has its queries written."""
    captions = [c for e in examples for texts in e.captions.values() for c in texts]
    some = captions[:: max(1, len(captions) // 200)]
    texts = [*parity_texts(), *CONTRACT_TEXTS, *some]
    return list(dict.fromkeys(in_case(normalise(text), model.case) for text in texts))


def _write_card(folder: Path, run: Path, difference: float) -> None:
    contract, known = read_contract(folder / INSIDE), about(run)
    case = str(contract["text"]["case"])
    words = card(
        contract,
        known.provenance,
        known.origins,
        head=_metadata(known),
        use=f"{USE}{_CASES[case]}Largest difference of a component between sentence-transformers' "
        f"vectors and the run's: {difference:.1e}.\n",
    )
    (folder / "README.md").write_text(words, encoding="utf-8")
    if known.origins.licence:
        (folder / "DATA_LICENSE.txt").write_text(known.origins.licence, encoding="utf-8")


_CASES = {
    "keep": "",
    "capitals": "Write queries in their usual case: cl2cm lower-cases a query in capitals alone "
    "first, and sentence-transformers does not.\n",
    "lower": "Write the first letter of a query in lower case, and none in capitals alone: cl2cm "
    "does so first, and sentence-transformers does not.\n",
}


def _metadata(known: About) -> str:
    languages = [known.origins.source, *known.provenance.get("data", {}).get("languages", [])]
    lists = {
        "language": [code for code in languages if code],
        "tags": ["sentence-transformers", "feature-extraction", "image-retrieval", "cl2cm"],
        "base_model": list(known.origins.bases),
    }
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    for key, values in lists.items():
        if values:
            lines += [f"{key}:", *(f"- {value!r}" for value in values)]
    return "\n".join([*lines, "license: other", "---", "", ""])


def _check_place(folder: Path) -> None:
    """Refuse a folder that holds something else."""
    ours = (folder / "modules.json").is_file() and (folder / INSIDE).is_dir()
    if folder.exists() and not ours and (folder.is_file() or any(folder.iterdir())):
        raise ConfigError(
            str(folder),
            expected="a new folder, or one of --layout hf to replace",
            found="something else",
            remedy="choose another folder",
        )
