"""The contract of a run: preprocessing of its encoders, with example outputs.

``contract.json`` says how the text side was fed (tokenizer hash, prefix, lower-casing, tokens,
pooling) with a few texts, their expected ids and vectors. It is checked at every load, so that a
tokenizer that changed under a model is an error, not a slow loss of quality. It holds the hash of
``config.toml``, too: half a file of settings is often a valid file of other settings.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.text import TextBackbone
from cl2cm.errors import CheckpointError
from cl2cm.model.config import Config
from cl2cm.model.retrieval import RetrievalModel
from cl2cm.storage import sha256_text
from cl2cm.text import CASES

CONTRACT_TEXTS = (
    "a dog in the snow",
    "Ein Hund im Schnee.",
    "雪地里的狗",
    "كلب في الثلج",
    "İstanbul",
)
MAX_EXAMPLES, MAX_EXAMPLE = 64, 4096  # of the contract, and characters of each
TOLERANCE = 1e-3  # of a contract vector's components; kernels differ between machines


class Space(NamedTuple):
    """The space of vectors of an earlier run, whose vision side a run has taken over unchanged.

    Attributes:
        model: fingerprint of the earlier run, which its indexes name.
        vision_side: fingerprint of the vision side of both; see `vision_side`.
    """

    model: str
    vision_side: str


def vision_side(head: nn.Module, vision: VisionEncoder | FeatureFiles) -> str:
    """Return the fingerprint of a vision side: every bit of its head, and its encoder."""
    digest = hashlib.sha256()
    for name, tensor in sorted(head.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return sha256_text(f"{digest.hexdigest()} {vision.fingerprint}")


def check_space(
    run: Path, agreed: dict[str, Any], head: nn.Module, vision: VisionEncoder | FeatureFiles
) -> str | None:
    """Return the fingerprint of the space that a run shares with an earlier one, if it does.

    Raises:
        CheckpointError: its vision side is not the one of the earlier run.
    """
    if "space" not in agreed:
        return None
    space = Space(**agreed["space"])
    found = vision_side(head, vision)
    if found != space.vision_side:
        raise CheckpointError(
            f"{run}: vision side",
            expected=f"the one of the run that it continues ({space.vision_side[:12]})",
            found=f"another ({found[:12]})",
            remedy="restore the run's files, or add the language again",
        )
    return space.model


def contract(config: Config, model: RetrievalModel, space: Space | None = None) -> dict[str, Any]:
    """Return how the model is fed, with examples of what comes out."""
    ids = model.backbone.tokenize(CONTRACT_TEXTS)
    vectors = model.encode_text(CONTRACT_TEXTS)
    return {
        "format": 1,
        "settings": config.hash,
        "dim": config.network.dim,
        "tokenizer": model.backbone.tokenizer_hash,
        "backbone": model.backbone.fingerprint,
        "prefix": config.text.prefix,
        "lower_case": model.backbone.lower_case,
        "case": model.case,
        "max_tokens": config.text.max_tokens,
        "layer": config.text.layer,
        "pooling": "masked mean",
        "vision": {
            "encoder": config.vision.encoder,
            "fingerprint": model.vision.fingerprint,
            "width": model.vision.width,
            "preprocessing": model.vision.preprocessing,
            **_samples(model.vision),
        },
        **({"space": space._asdict()} if space else {}),
        "examples": [
            {"text": text, "ids": row, "vector": [round(float(x), 6) for x in vector]}
            for text, row, vector in zip(CONTRACT_TEXTS, ids, vectors, strict=True)
        ],
    }


def _samples(vision: VisionEncoder | FeatureFiles) -> dict[str, Any]:
    """Return what tells stored features apart, where there is no encoder to do so."""
    return {"samples": vision.samples()} if isinstance(vision, FeatureFiles) else {}


def check_form(agreed: Any) -> None:  # noqa: ANN401 - whatever the file holds
    """Check the form of a contract; its values are compared when the encoders are loaded.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is of another form.
    """
    texts = [agreed["backbone"], agreed["tokenizer"], agreed["vision"]["fingerprint"]]
    texts.append(agreed.get("settings", ""))
    texts += [example["text"] for example in agreed["examples"]]
    texts += agreed["vision"].get("samples", {}).values()
    if "space" in agreed:
        texts += Space(**agreed["space"])
    if agreed.get("case", "keep") not in CASES:
        raise ValueError("a rule of capitals that there is not")
    if not isinstance(agreed["vision"].get("width", 1), int):
        raise ValueError("a width that is no number")
    if not agreed["examples"] or not all(isinstance(text, str) for text in texts):
        raise ValueError("a contract of another form")
    if len(agreed["examples"]) > MAX_EXAMPLES or any(len(text) > MAX_EXAMPLE for text in texts):
        raise ValueError("more or longer examples than a contract has")
    for example in agreed["examples"]:
        if not all(isinstance(number, int) for number in example["ids"]):
            raise ValueError("ids that are no numbers")
        if not all(isinstance(number, float | int) for number in example["vector"]):
            raise ValueError("a vector that is none")
    if len({len(example["vector"]) for example in agreed["examples"]}) > 1:
        raise ValueError("vectors of two widths")


def check_same(run: Path, name: str, expected: str, found: str) -> None:
    """Refuse an encoder whose fingerprint is not the one that the contract names.

    Raises:
        CheckpointError: they differ.
    """
    if expected != found:
        raise CheckpointError(
            f"{run}: {name}",
            expected=f"the one that it was trained with ({expected[:12]})",
            found=f"another ({found[:12]})",
            remedy="name the one that is meant, install that version, or train again",
        )


def check_texts(run: Path, agreed: dict[str, Any], backbone: TextBackbone) -> None:
    """Refuse a text backbone or tokenizer that the run was not trained with.

    Raises:
        CheckpointError: the contract names another.
    """
    check_same(run, "tokenizer", agreed["tokenizer"], backbone.tokenizer_hash)
    check_same(run, "text backbone", agreed["backbone"], backbone.fingerprint)
    for example in agreed["examples"]:
        ids = backbone.tokenize([example["text"]])[0]
        if ids != example["ids"]:
            raise CheckpointError(
                f"{run}: tokens of {example['text']!r}",
                expected=str(example["ids"]),
                found=str(ids),
                remedy="install the tokenizers version of provenance.json, or train again",
            )


def check_outputs(run: Path, agreed: dict[str, Any], model: RetrievalModel) -> None:
    """Refuse a model whose vectors of the contract's texts differ from the recorded ones.

    Raises:
        CheckpointError: they differ by more than kernels of other machines do.
    """
    vectors = model.encode_text([example["text"] for example in agreed["examples"]])
    expected = np.asarray([example["vector"] for example in agreed["examples"]], dtype=np.float32)
    worst = float(np.abs(vectors - expected).max()) if vectors.shape == expected.shape else np.inf
    if not worst <= TOLERANCE:
        raise CheckpointError(
            f"{run}: vectors of the contract's texts",
            expected=f"the vectors of the training, to {TOLERANCE}",
            found=f"a difference of {worst:.2g}",
            remedy="restore the run's files, or train again",
        )
