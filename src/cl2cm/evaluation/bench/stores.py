"""The features that the runs of a benchmark share: made once, before any of them starts."""

from collections.abc import Sequence
from pathlib import Path

from cl2cm.data.manifest import Skipped
from cl2cm.data.queries import every_text
from cl2cm.data.stand_ins import with_stand_ins
from cl2cm.encode.encoding import encode_pictures, encode_texts
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.vision import load_vision
from cl2cm.model.checkpoint import load_backbone
from cl2cm.model.config import Config
from cl2cm.training.noise import planted
from cl2cm.types import Example


def make_stores(
    config: Config, examples: Sequence[Example], skipped: Skipped | None = None
) -> tuple[Path, Path | None]:
    """Return features of all texts and images, under the backbones of a configuration.

    Features that were not made here stay where they are: they have no folder.
    """
    root = Path(config.data.features) if config.data.features else None
    encoder = load_vision(config.vision.encoder, sampling=config.vision.films)
    vision = encode_pictures(
        examples,
        encoder,
        root=root,
        skip_bad=config.data.skip_bad,
        on_skip=(skipped or Skipped()).item,
    )
    frozen = load_backbone(config)
    texts = _texts_to_encode(config, examples)
    text = encode_texts(texts, frozen, root=root)
    if not config.network.layers:
        text.means()
    return text.folder, None if isinstance(encoder, FeatureFiles) else vision.folder


def _texts_to_encode(config: Config, examples: Sequence[Example]) -> list[str]:
    """Return all captions, and the translations for training and validation."""
    texts = every_text(examples, translated=("train",))
    if config.data.noise:  # clean ones stay: supervised and zero-shot are trained without noise
        texts += every_text(planted(config, examples)[0], translated=("train",))
    val = [example for example in examples if example.split == "val"]
    wanted = sorted({code for example in val for code in example.translations})
    filled, _ = with_stand_ins(
        val, wanted, engines=config.data.engines, min_quality=config.data.min_quality
    )
    return list(dict.fromkeys(texts + every_text(filled, translated=())))
