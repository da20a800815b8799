"""Save a trained model as a run, and load it for search and evaluation.

``run_folder.py`` reads the files of a run, ``contract.py`` compares the encoders with the
encoders of the training, and ``weights.py`` reads the weights.
"""

from pathlib import Path
from typing import Any

from torch import nn

from cl2cm.encode.feature_files import Agreed, FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.trust import confine
from cl2cm.encode.vision import load_vision
from cl2cm.errors import CheckpointError
from cl2cm.model.config import Config
from cl2cm.model.contract import (
    Space,
    check_outputs,
    check_same,
    check_space,
    check_texts,
    contract,
    vision_side,
)
from cl2cm.model.encoders import Encoders
from cl2cm.model.networks import CrossModalNetwork, build_student, build_vision_head
from cl2cm.model.off_the_shelf import load_pair, load_pair_visual
from cl2cm.model.retrieval import RetrievalModel, VisualSide
from cl2cm.model.run_folder import damaged, hashes_of, read_provenance, read_run, save_config
from cl2cm.model.weights import load_weights, save_weights
from cl2cm.storage import sha256_file, sha256_text, write_record
from cl2cm.types import StrPath, is_model_spec


def load_backbone(config: Config) -> TextBackbone:
    """Return the text backbone that a configuration names."""
    text = config.text
    return TextBackbone.load(
        text.encoder,
        layer=None if text.layer == -1 else text.layer,
        freeze=text.freeze,
        prefix=text.prefix,
        max_tokens=text.max_tokens,
        lower_case=text.lower_case,
    )


def save_run(
    run: Path,
    config: Config,
    networks: tuple[CrossModalNetwork, nn.Module | None],
    encoders: tuple[TextBackbone, VisionEncoder | FeatureFiles],
    provenance: dict[str, Any],
    space: Space | None = None,
) -> dict[str, Any]:
    """Finish a run folder; ``provenance.json`` last, which makes it a run.

    Args:
        run: the run folder.
        config: its settings.
        networks: the student, and the teacher where the method trains one.
        encoders: the text backbone, and the vision backbone or stored features.
        provenance: what the run was made from.
        space: of the earlier run whose vision side the student keeps; None: it has its own.

    Returns:
        What ``provenance.json`` says: the given, and the fingerprint of the model.
    """
    (student, teacher), (backbone, vision) = networks, encoders
    if space is not None and vision_side(student.vision, vision) != space.vision_side:
        raise CheckpointError(
            str(run),
            expected="the vision side of the run that it continues, bit for bit",
            found="another",
            remedy="remove the folder, and report this: training must not change it",
        )
    save_config(run, config)
    if teacher is not None:
        save_weights(teacher, run / "teacher.safetensors")
    save_weights(student, run / "model.safetensors")
    name = _fingerprint(run, backbone.fingerprint, vision)
    model = RetrievalModel(student, backbone, vision, fingerprint=name, dim=config.network.dim)
    model.case = provenance.get("data", {}).get("case", "keep")
    write_record(run / "contract.json", contract(config, model, space))
    whole = {**provenance, "model": name, "files": hashes_of(run)}
    write_record(run / "provenance.json", whole)
    return whole


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
            may hold other items than the training data.

    Raises:
        CheckpointError: it is not a run, unfinished, damaged, or its contract does not hold here.
    """
    if is_model_spec(run):
        return load_pair(str(run), text_encoder=text_encoder, vision_encoder=vision_encoder)
    run = Path(run)
    encoders = Encoders(text_encoder, vision_encoder)
    config, agreed = read_run(run, encoders)
    backbone = load_backbone(config)
    vision = _load_vision(run, config, agreed, elsewhere=bool(vision_encoder))
    check_texts(run, agreed, backbone)
    student = build_student(
        config.network,
        text_width=backbone.width,
        vision_width=vision.width,
        backbone=None if config.text.freeze == "all" else backbone,
    )
    load_weights(student, run / "model.safetensors")
    name = _fingerprint(run, backbone.fingerprint, vision)
    space = check_space(run, agreed, student.vision, vision) or name
    model = RetrievalModel(student, backbone, vision, fingerprint=space, dim=config.network.dim)
    model.run = run
    model.case = agreed.get("case", "keep")  # runs of earlier versions do not say
    check_outputs(run, agreed, model)
    _check_fingerprint(run, name)
    return model


def space_of(run: Path, *, vision_encoder: str = "") -> tuple[Space, VisionEncoder | FeatureFiles]:
    """Return the space of vectors of a finished run, and its vision encoder or features.

    Raises:
        CheckpointError: as `load_visual`.
    """
    side = load_visual(run, vision_encoder=vision_encoder)
    return Space(side.fingerprint, vision_side(side.head, side.vision)), side.vision


def load_visual(run: StrPath, *, vision_encoder: str = "") -> VisualSide:
    """Load the vision side of a finished run, for indexing; the text backbone is left unread.

    Args:
        run: the run folder.
        vision_encoder: as for `load`.

    Raises:
        CheckpointError: as in `load`, except errors that concern only texts.
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
    space = check_space(run, agreed, head, vision) or name
    model = VisualSide(head, vision, fingerprint=space, dim=config.network.dim)
    model.run = run
    return model


def _load_vision(
    run: Path, config: Config, agreed: dict[str, Any], *, elsewhere: bool
) -> VisionEncoder | FeatureFiles:
    """Return the vision encoder of a run, or its features, which are not opened yet."""
    spec, known = config.vision.encoder, agreed["vision"]
    trained = str(known.get("encoder", spec))
    stored = trained.startswith("features:")
    if stored != spec.startswith("features:"):
        raise CheckpointError(
            f"{run}: vision encoder",
            expected="features, as in training" if stored else f"one such as {trained}",
            found=spec,
            remedy="name the features: --features PATH" if stored else "remove --features",
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
    check_same(run, "vision backbone", known["fingerprint"], vision.fingerprint)
    return vision


def _fingerprint(run: Path, backbone: str, vision: VisionEncoder | FeatureFiles) -> str:
    return fingerprint(sha256_file(run / "model.safetensors"), backbone, vision.fingerprint)


def _check_fingerprint(run: Path, found: str) -> None:
    if read_provenance(run).get("model", found) != found:
        weights = run / "model.safetensors"
        # in the vision head, say, which the contract's texts do not ask
        raise damaged(weights, "others", expected="the weights of training")
