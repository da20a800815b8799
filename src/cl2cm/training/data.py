"""Training data: from a manifest, through frozen backbones, to batches and a validation set."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.data.favoured import favour
from cl2cm.data.manifest import Skipped, read_manifest
from cl2cm.data.pairs import Texts, caption_pairs, target_languages
from cl2cm.data.stand_ins import with_stand_ins
from cl2cm.encode.encoding import encode_pictures
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import NoFeatures, StoredFeatures
from cl2cm.encode.steps import text_states
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.methods.base import Method
from cl2cm.methods.registry import method_class
from cl2cm.methods.settings import settings_of
from cl2cm.metrics import metrics
from cl2cm.model.checkpoint import load_backbone
from cl2cm.model.config import Config
from cl2cm.model.networks import (
    CrossModalNetwork,
    TextNetwork,
    masked_mean,
)
from cl2cm.model.vectors import picture_vectors, sentence_vectors
from cl2cm.model.whitening import Whitening
from cl2cm.storage import sha256_file
from cl2cm.text import case_rule
from cl2cm.training.batches import Batches
from cl2cm.training.initial import Kept
from cl2cm.training.noise import spoilt
from cl2cm.training.texts import check_unknown, lower_cased, text_sources
from cl2cm.training.validation import (
    Validation,
    left_out_items,
    make_validation,
    say_validation,
    teacher_note_of,
)
from cl2cm.types import Example

WHITENING_TEXTS = 4096  # whose states are computed for it, where they are not stored


class Stores(NamedTuple):
    """Feature stores that hold at least what a run needs, to be shared between runs."""

    text: FeatureStore
    vision: StoredFeatures


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Batches, validation set and backbones of a run.

    Attributes:
        batches: of the training split.
        validation: what epochs are measured on.
        texts: number of distinct texts.
        backbone: the text backbone.
        encoder: the vision backbone, or the features that stand for one.
        provenance: what the data were.
        left_out: split → ids of its items that nothing could be learned from, or measured on.
        goals: vectors [texts, D] of the text side of the off-the-shelf model that the training
            starts from; zero except for source captions.
        teacher_note: what a cross-lingual stage is not measured on, for the user; may be empty.
    """

    batches: Batches
    validation: Validation
    texts: int
    backbone: TextBackbone
    encoder: VisionEncoder | FeatureFiles
    provenance: dict[str, Any]
    left_out: dict[str, list[str]]
    teacher_note: str
    goals: Tensor | None = None

    def all_sentences(self, network: TextNetwork) -> Tensor:
        """Return unit vectors [texts, D] of all texts."""
        return sentence_vectors(network, self.batches.sentences, torch.arange(self.texts))

    @torch.no_grad()
    def fit_whitening(self, method: Method, *, ridge: float) -> None:
        """Fit every Whitening of a method to the mean states of the training texts.

        One that is fixed came with the weights that the training starts from.

        A backbone that is trained is asked for at most ``WHITENING_TEXTS`` of them.
        """
        layers = [m for m in method.modules() if isinstance(m, Whitening) and not m.fixed]
        if not layers:
            return
        pairs = self.batches.pairs
        rows = torch.from_numpy(np.unique(np.concatenate([pairs.source, pairs.target])))
        if self.batches.means is not None:
            means = self.batches.means.gather(rows).values.squeeze(1)
        else:
            picked = rows[:: max(1, len(rows) // WHITENING_TEXTS)]
            means = torch.cat([self._mean_states(part) for part in picked.split(64)])
        for layer in layers:
            layer.fit(means, ridge=ridge)

    def _mean_states(self, rows: Tensor) -> Tensor:
        tokens = self.batches.text.gather(rows)
        if not tokens.values.is_floating_point():
            tokens = text_states(self.backbone, tokens)
        normal = nn.functional.layer_norm(tokens.values, tokens.values.shape[-1:])
        return masked_mean(normal, tokens.mask)

    def sum_of_recalls(self, network: TextNetwork) -> dict[str, float]:
        """Return the validation SumR of each language that was measured.

        Of images and videos, as ``evaluate`` computes it; of source captions for the teacher.
        """
        result, texts = {}, self.batches.sentences
        has_vision = isinstance(network, CrossModalNetwork)
        for language, asked in self.validation[0 if has_vision else 1].items():
            text = sentence_vectors(network, texts, asked.texts)
            if isinstance(network, CrossModalNetwork):
                gallery = picture_vectors(network.vision, self.batches.vision, asked.gallery)
            else:
                gallery = sentence_vectors(network, texts, asked.gallery)
            result[language] = float(metrics(text.numpy(), gallery.numpy(), asked.answers)["SumR"])
        return result


def load_training_data(
    config: Config, stores: Stores | None = None, kept: Kept | None = None
) -> TrainingData:
    """Read the manifest and encode what the stores do not have yet.

    Args:
        config: all settings.
        stores: features of at least all that is needed, by the configured encoders; None makes
            stores of exactly that, in the cache.
        kept: what the training takes over from an earlier run.

    Raises:
        CL2CMError: whatever is wrong with settings, manifest, encoders or images.
    """
    backbone = load_backbone(config)
    encoder = (
        kept.vision if kept else load_vision(config.vision.encoder, sampling=config.vision.films)
    )
    skipped = Skipped()
    examples, noise = spoilt(config, _read(config, skipped))
    if kept and kept.case == "lower":  # as queries will be
        examples = [lower_cased(example) for example in examples]
    _languages(config, [e for e in examples if e.split == "train"])  # before anything is encoded
    reads_media = method_class(config.method).reads_media(settings_of(config))
    vision: StoredFeatures = NoFeatures([example.id for example in examples], encoder.width)
    if reads_media:
        vision = (
            stores.vision if stores else _encode_all_pictures(config, examples, encoder, skipped)
        )
        if isinstance(encoder, FeatureFiles):  # whatever else is in their folder
            encoder = encoder.only([example for example in examples if vision.has(example.id)])
    train, val = (
        [e for e in examples if e.split == split and vision.has(e.id)] for split in ("train", "val")
    )
    texts = Texts()
    source = config.data.source
    languages = _languages(config, train)
    pairs = _pairs(config, train, texts, languages)
    case = (kept and kept.case) or case_rule(texts.all())
    if not reads_media:  # images are what the epochs would be measured on
        val = []
    check_unknown(backbone, pairs, texts.all(), source)
    val, translated = with_stand_ins(
        val, languages, engines=config.data.engines, min_quality=config.data.min_quality
    )
    validation = make_validation(val, texts, vision, [source, *languages], source)
    left_out = left_out_items(train, pairs, val, [source, *languages])
    say_validation(validation, val, [source, *languages], translated)
    store = stores.text if stores else None
    text, means = text_sources(config, texts.all(), backbone, store, reuse=kept is not None)
    batches = Batches(
        pairs=pairs,
        text=text,
        means=means,
        vision=vision,
        vision_rows=torch.tensor([vision.row(example.id) for example in train]),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        every_language=config.data.every_language,
    )
    return TrainingData(
        batches=batches,
        validation=validation,
        texts=len(texts),
        backbone=backbone,
        encoder=encoder,
        provenance={
            **_counts(
                config, train_pictures=train, val_pictures=val, caption_pairs=pairs, texts=texts
            ),
            "languages": list(languages),
            "case": case,
            "encoders": {"text": backbone.fingerprint, "vision": encoder.fingerprint},
            **noise,
            **({"validated_on_translations": translated} if translated else {}),
        },
        left_out=left_out,
        goals=kept.goals(texts.all(), pairs.source) if kept and kept.goals else None,
        teacher_note=teacher_note_of(validation, val, source),
    )


def _counts(config: Config, **parts: Sized) -> dict[str, Any]:
    """Return the manifest's hash and the sizes of what is trained on, for the provenance."""
    sizes = {name: len(part) for name, part in parts.items()}
    return {"manifest_sha256": sha256_file(Path(config.data.manifest)), **sizes}


def _pairs(
    config: Config, train: Sequence[Example], texts: Texts, languages: Sequence[str]
) -> CaptionPairs:
    """Return the caption pairs of the training items; their texts are added to ``texts``."""
    method = method_class(config.method)
    pairs = caption_pairs(
        train,
        texts,
        source=config.data.source,
        languages=languages,
        engines=config.data.engines,
        human=method.targets == "captions",
        min_quality=config.data.min_quality,
        quality_weighting=config.data.quality_weighting,
    )
    favoured = method.favoured(settings_of(config))
    return favour(pairs, *favoured) if favoured else pairs


def _encode_all_pictures(
    config: Config,
    examples: Sequence[Example],
    encoder: VisionEncoder | FeatureFiles,
    skipped: Skipped,
) -> StoredFeatures:
    root = Path(config.data.features) if config.data.features else None
    return encode_pictures(
        examples, encoder, skip_bad=config.data.skip_bad, on_skip=skipped.item, root=root
    )


def _read(config: Config, skipped: Skipped) -> list[Example]:
    """Return all examples: test images too, so that evaluation and index find them encoded."""
    if not config.data.manifest:
        raise ConfigError(
            "data.manifest", expected="a path", found="none", remedy="set it in the file"
        )
    path = Path(config.data.manifest)
    examples = list(
        read_manifest(
            path,
            source=config.data.source,
            skip_bad=config.data.skip_bad,
            on_skip=skipped.item,
        )
    )
    if not any(example.split == "train" for example in examples):
        raise ManifestError(
            str(path),
            expected="items of the split 'train'",
            found="none",
            remedy='give the training items "split": "train"',
        )
    return examples


def _languages(config: Config, train: Sequence[Example]) -> tuple[str, ...]:
    """Return target languages; none where the method trains on source captions alone."""
    targets = method_class(config.method).targets
    if targets == "none":
        return ()
    return target_languages(
        train,
        source=config.data.source,
        chosen=config.data.languages,
        human=targets == "captions",
    )
