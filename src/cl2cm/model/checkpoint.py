"""A run on the disk: weights, configuration, the tokenizer's contract, and where it came from.

``contract.json`` says how the text side was fed (tokenizer hash, prefix, lower-casing, tokens,
pooling) with a few texts, their expected ids and vectors. It is checked at every load, so that a
tokenizer that changed under a model is an error, not a slow loss of quality. A run may come from
anyone: its files are regular files inside it, of bounded size, and its encoders are confined by
``trust.py``. A run folder:

    config.toml        the settings
    model.safetensors  the student's weights
    teacher.safetensors  the cross-lingual network's weights, where the method has one
    contract.json      how texts and pictures are fed
    metrics.jsonl      what the loop logged
    provenance.json    versions, data, time, validation results; written last
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cl2cm.encode.feature_files import Agreed, FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.trust import check_inside, confine
from cl2cm.encode.vision import load_vision
from cl2cm.errors import CheckpointError, ConfigError, NumberError
from cl2cm.model.config import Config, parse_config, read_tree, to_toml
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.model.networks import CrossModalNetwork, build_student, build_vision_head
from cl2cm.model.off_the_shelf import load_pair, load_pair_visual
from cl2cm.model.retrieval import RetrievalModel, VisualSide
from cl2cm.storage import atomic_file, atomic_path, sha256_file, sha256_text, write_json
from cl2cm.types import StrPath, is_model_spec

CONTRACT_TEXTS = (
    "a dog in the snow",
    "Ein Hund im Schnee.",
    "雪地里的狗",
    "كلب في الثلج",
    "İstanbul",
)
FILES = (
    *("config.toml", "contract.json", "provenance.json"),
    *("model.safetensors", "teacher.safetensors"),
)
MAX_TEXT = 2**24  # bytes of a file that is no weights
MAX_EXAMPLES, MAX_EXAMPLE = 64, 4096  # of the contract, and characters of each
TOLERANCE = 1e-3  # of a contract vector's components; kernels differ between machines


def load_backbone(config: Config) -> TextBackbone:
    """The text backbone that a configuration names."""
    text = config.text
    return TextBackbone.load(
        text.encoder,
        layer=None if text.layer == -1 else text.layer,
        freeze=text.freeze,
        prefix=text.prefix,
        max_tokens=text.max_tokens,
        lower_case=text.lower_case,
    )


def save_weights(network: nn.Module, path: Path) -> None:
    """Write a network's weights, whole or not at all.

    Raises:
        NumberError: a weight is not finite.
        StorageError: the disk is full or closed.
    """
    state = {
        name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    if name := _not_finite(state):
        raise NumberError(
            f"{path}: {name}",
            expected="finite weights",
            found="NaN or infinity",
            remedy="train again with a lower train.lr",
        )
    with atomic_path(path) as partial:
        save_file(state, partial)


def save_config(run: Path, config: Config) -> None:
    """Write the settings of a run."""
    with atomic_file(run / "config.toml") as file:
        file.write(to_toml(config).encode())


def save_run(
    run: Path,
    config: Config,
    networks: tuple[CrossModalNetwork, nn.Module | None],
    encoders: tuple[TextBackbone, VisionEncoder | FeatureFiles],
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Finish a run folder; ``provenance.json`` last, which makes it a run.

    Args:
        run: the run folder.
        config: its settings.
        networks: the student, and the teacher where the method trains one.
        encoders: the text backbone, and the vision backbone or stored features.
        provenance: what the run was made from.

    Returns:
        What ``provenance.json`` says: the given, and the fingerprint of the model.
    """
    (student, teacher), (backbone, vision) = networks, encoders
    save_config(run, config)
    if teacher is not None:
        save_weights(teacher, run / "teacher.safetensors")
    save_weights(student, run / "model.safetensors")
    name = _fingerprint(run, backbone.fingerprint, vision)
    model = RetrievalModel(student, backbone, vision, fingerprint=name, dim=config.network.dim)
    write_json(run / "contract.json", contract(config, model))
    whole = {**provenance, "model": name}
    write_json(run / "provenance.json", whole)
    return whole


def contract(config: Config, model: RetrievalModel) -> dict[str, Any]:
    """How the model is fed, with examples of what comes out."""
    ids = model.backbone.tokenize(CONTRACT_TEXTS)
    vectors = model.encode_text(CONTRACT_TEXTS)
    return {
        "format": 1,
        "dim": config.network.dim,
        "tokenizer": model.backbone.tokenizer_hash,
        "backbone": model.backbone.fingerprint,
        "prefix": config.text.prefix,
        "lower_case": config.text.lower_case,
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
        "examples": [
            {"text": text, "ids": row, "vector": [round(float(x), 6) for x in vector]}
            for text, row, vector in zip(CONTRACT_TEXTS, ids, vectors, strict=True)
        ],
    }


def _samples(vision: VisionEncoder | FeatureFiles) -> dict[str, Any]:
    """What tells stored features apart, where there is no encoder to do so."""
    return {"samples": vision.samples()} if isinstance(vision, FeatureFiles) else {}


def fingerprint(weights_hash: str, backbone: str, vision: str) -> str:
    """Name of the space of vectors that weights and the fingerprints of two backbones make."""
    return sha256_text(f"{weights_hash} {backbone} {vision}")


def load(run: StrPath, *, text_encoder: str = "", vision_encoder: str = "") -> RetrievalModel:
    """Load a finished run for search or evaluation.

    Stored features are opened when an item is asked for: texts can be encoded without them.

    Args:
        run: the folder that ``cl2cm train`` wrote, or an off-the-shelf model: ``hf:MODEL``.
        text_encoder: where the text encoder is by now, such as ``hf:DIR``; "": where the run says.
        vision_encoder: the same of the vision encoder, or of features: ``features:PATH``, which
            may hold other items than those of training.

    Raises:
        CheckpointError: it is no run, unfinished, damaged, or its contract does not hold here.

    Example:
        >>> import cl2cm
        >>> model = cl2cm.load("run")
        >>> texts = model.encode_text(["red square", "blue bar"])
        >>> images = model.encode_images(["images/red-square.png", "images/blue-bar.png"])
        >>> (texts @ images.T).argmax(axis=1)
        array([0, 1])
    """
    if is_model_spec(run):
        return load_pair(str(run), text_encoder=text_encoder, vision_encoder=vision_encoder)
    run = Path(run)
    encoders = Encoders(text_encoder, vision_encoder)
    config, agreed = read_run(run, encoders)
    backbone = load_backbone(config)
    vision = _load_vision(run, config, agreed, elsewhere=bool(vision_encoder))
    _check_texts(run, agreed, backbone)
    student = build_student(
        config.network,
        text_width=backbone.width,
        vision_width=vision.width,
        backbone=None if config.text.freeze == "all" else backbone,
    )
    load_weights(student, run / "model.safetensors")
    name = _fingerprint(run, backbone.fingerprint, vision)
    model = RetrievalModel(student, backbone, vision, fingerprint=name, dim=config.network.dim)
    model.run = run
    _check_outputs(run, agreed, model)
    _check_fingerprint(run, name)
    return model


def load_visual(run: StrPath, *, vision_encoder: str = "") -> VisualSide:
    """Load the vision side of a finished run, for indexing; the text backbone is left unread.

    Args:
        run: the run folder.
        vision_encoder: as for `load`.

    Raises:
        CheckpointError: as `load`, but for what is known of texts alone.
    """
    if is_model_spec(run):
        return load_pair_visual(str(run), vision_encoder=vision_encoder)
    run = Path(run)
    config, agreed = read_run(run, Encoders(vision=vision_encoder), text=False)
    vision = _load_vision(run, config, agreed, elsewhere=bool(vision_encoder))
    head = build_vision_head(config.network, vision.width)
    load_weights(head, run / "model.safetensors", prefix="vision.")
    name = _fingerprint(run, agreed["backbone"], vision)
    _check_fingerprint(run, name)
    model = VisualSide(head, vision, fingerprint=name, dim=config.network.dim)
    model.run = run
    return model


def _load_vision(
    run: Path, config: Config, agreed: dict[str, Any], *, elsewhere: bool
) -> VisionEncoder | FeatureFiles:
    """The vision encoder of a run, or its features, which are not opened yet."""
    spec, known = config.vision.encoder, agreed["vision"]
    trained = str(known.get("encoder", spec))
    stored = trained.startswith("features:")
    if stored != spec.startswith("features:"):
        raise CheckpointError(
            f"{run}: vision encoder",
            expected="features, as in training" if stored else f"one such as {trained}",
            found=spec,
            remedy="name the features: --features PATH" if stored else "leave --features out",
        )
    if stored:
        try:
            spec, allowed = spec if elsewhere else confine(spec, run), True
        except CheckpointError:  # texts can be encoded without them
            allowed = False
        samples = known.get("samples", {})
        what = Agreed(
            known["width"], known["fingerprint"], samples, elsewhere=elsewhere, allowed=allowed
        )
        return FeatureFiles(spec, Path(spec.partition(":")[2]).expanduser(), what)
    vision = load_vision(spec, sampling=config.vision.films)
    _check_same(run, "vision backbone", known["fingerprint"], vision.fingerprint)
    return vision


def _fingerprint(run: Path, backbone: str, vision: VisionEncoder | FeatureFiles) -> str:
    return fingerprint(sha256_file(run / "model.safetensors"), backbone, vision.fingerprint)


def _check_fingerprint(run: Path, found: str) -> None:
    if read_provenance(run).get("model", found) != found:
        weights = run / "model.safetensors"
        # in the vision head, say, which the contract's texts do not ask
        raise _damaged(weights, "others", expected="the weights of training")


def read_run(
    run: Path, encoders: Encoders = AS_TRAINED, *, text: bool = True
) -> tuple[Config, dict[str, Any]]:
    """Return the configuration and contract of a finished run; the paths in it are confined.

    Args:
        run: the run folder.
        encoders: take the place of those that the run names; they are the user's own words.
        text: whether the text encoder will be opened.

    Raises:
        CheckpointError: it is no run, unfinished, damaged, or names a model elsewhere.
    """
    _check_files(run)
    if not (run / "provenance.json").exists():
        unfinished = (run / "state").exists()
        raise CheckpointError(
            str(run),
            expected="a finished run",
            found="one that is still to be finished" if unfinished else "no provenance.json",
            remedy="run cl2cm train with --resume" if unfinished else "make it with cl2cm train",
        )
    try:
        config = parse_config(read_tree(run / "config.toml"))
        agreed = json.loads((run / "contract.json").read_text(encoding="utf-8"))
        _check_contract(agreed)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise _damaged(run, f"unreadable settings ({error})") from None
    _check_size(run, config)
    named = encoders.text or config.text.encoder
    if text and not encoders.text:
        named = confine(named, run)
    spec = encoders.vision or config.vision.encoder
    if not encoders.vision and not spec.startswith("features:"):  # these are opened on demand
        spec = confine(spec, run)
    sides = replace(config.text, encoder=named), replace(config.vision, encoder=spec)
    return replace(config, text=sides[0], vision=sides[1]), agreed


def _check_files(run: Path) -> None:
    """Before any is opened: a link may lead anywhere, a pipe never ends."""
    for name in FILES:
        file = run / name
        check_inside(file, run)
        if file.suffix != ".safetensors" and file.exists() and file.stat().st_size > MAX_TEXT:
            raise _damaged(file, f"{file.stat().st_size:,} bytes", expected="a small file")


def _check_size(run: Path, config: Config) -> None:
    """Refuse settings of a network far larger than the weights, before memory is taken for it."""
    weights, network = run / "model.safetensors", config.network
    least = 2 * network.layers * 4 * network.dim**2  # bytes of the attention in half precision
    if weights.exists() and weights.stat().st_size < least:
        raise _damaged(weights, f"weights that do not fit ({weights.stat().st_size:,} bytes)")


def read_provenance(run: Path) -> dict[str, Any]:
    """What a finished run says of its making.

    Raises:
        CheckpointError: it is damaged.
    """
    _check_files(run)
    try:
        provenance = json.loads((run / "provenance.json").read_text(encoding="utf-8"))
        if not {"config", "validation_SumR"} <= provenance.keys():
            raise ValueError("missing keys")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise _damaged(run, f"an unreadable provenance.json ({error})") from None
    return dict(provenance)


def load_weights(network: nn.Module, path: Path, *, prefix: str = "") -> None:
    """Read a network's weights; names, after their ``prefix``, and shapes must be the same.

    Raises:
        CheckpointError: the file is damaged or another network's.
    """
    try:
        state: dict[str, Tensor] = load_file(path)
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise _damaged(path, f"weights that do not fit ({reason})") from None
    if name := _not_finite(state):
        raise _damaged(path, f"NaN or infinity in {name}", expected="finite weights")


def _not_finite(state: Mapping[str, Tensor]) -> str:
    """Name of the first tensor that is not finite; "" where all are."""
    bad = (name for name, tensor in state.items() if not bool(tensor.isfinite().all()))
    return next(bad, "")


def _check_contract(agreed: Any) -> None:  # noqa: ANN401 - whatever the file holds
    """Its form; what it says is compared when the encoders are loaded."""
    texts = [agreed["backbone"], agreed["tokenizer"], agreed["vision"]["fingerprint"]]
    texts += [example["text"] for example in agreed["examples"]]
    texts += agreed["vision"].get("samples", {}).values()
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


def _check_same(run: Path, name: str, expected: str, found: str) -> None:
    if expected != found:
        raise CheckpointError(
            f"{run}: {name}",
            expected=f"the one that it was trained with ({expected[:12]})",
            found=f"another ({found[:12]})",
            remedy="name the one that is meant, install that version, or train again",
        )


def _check_texts(run: Path, agreed: dict[str, Any], backbone: TextBackbone) -> None:
    _check_same(run, "tokenizer", agreed["tokenizer"], backbone.tokenizer_hash)
    _check_same(run, "text backbone", agreed["backbone"], backbone.fingerprint)
    for example in agreed["examples"]:
        ids = backbone.tokenize([example["text"]])[0]
        if ids != example["ids"]:
            raise CheckpointError(
                f"{run}: tokens of {example['text']!r}",
                expected=str(example["ids"]),
                found=str(ids),
                remedy="install the tokenizers version of provenance.json, or train again",
            )


def _check_outputs(run: Path, agreed: dict[str, Any], model: RetrievalModel) -> None:
    vectors = model.encode_text([example["text"] for example in agreed["examples"]])
    expected = np.asarray([example["vector"] for example in agreed["examples"]], dtype=np.float32)
    worst = float(np.abs(vectors - expected).max()) if vectors.shape == expected.shape else np.inf
    if not worst <= TOLERANCE:
        raise CheckpointError(
            f"{run}: vectors of the contract's texts",
            expected=f"those of training, to {TOLERANCE}",
            found=f"a difference of {worst:.2g}",
            remedy="restore the run's files, or train again",
        )


def _damaged(path: Path, found: str, *, expected: str = "a whole run") -> CheckpointError:
    return CheckpointError(
        str(path), expected=expected, found=found, remedy="restore it, or train again"
    )
