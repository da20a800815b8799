"""Load the training data: from a manifest, through frozen backbones, to batches."""

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cl2cm.data.caption_pairs import CaptionPairs
from cl2cm.data.favoured import favour
from cl2cm.data.manifest import Skipped, read_manifest
from cl2cm.data.pairs import Texts, caption_pairs, target_languages
from cl2cm.data.stand_ins import with_stand_ins
from cl2cm.encode.encoding import encode_pictures
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import NoFeatures, StoredFeatures
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, ManifestError
from cl2cm.methods.registry import method_class
from cl2cm.methods.settings import settings_of
from cl2cm.model.checkpoint import load_backbone
from cl2cm.model.config import Config
from cl2cm.storage import sha256_file
from cl2cm.text import case_rule
from cl2cm.training.batches import Batches
from cl2cm.training.confidence import with_confidence
from cl2cm.training.data import Stores, TrainingData
from cl2cm.training.initial import Kept
from cl2cm.training.noise import spoilt
from cl2cm.training.texts import check_unknown, frozen_states, lower_cased, text_sources
from cl2cm.training.validation import (
    left_out_items,
    make_validation,
    say_validation,
    teacher_note_of,
)
from cl2cm.types import Example


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
    train, val, vision, encoder, noise = _encode_items(config, stores, kept)
    texts = Texts()
    source, targets = config.data.source, _languages(config, train)
    languages = [source, *targets]
    pairs = _pairs(config, train, texts, targets)
    case = (kept and kept.case) or case_rule(texts.all())
    check_unknown(backbone, pairs, texts.all(), source)
    val, translated = with_stand_ins(
        val, targets, engines=config.data.engines, min_quality=config.data.min_quality
    )
    validation = make_validation(val, texts, vision, languages, source)
    left_out = left_out_items(train, pairs, val, languages)
    say_validation(validation, val, languages, translated)
    store = stores.text if stores else None
    text, means = text_sources(config, texts.all(), backbone, store, reuse=kept is not None)
    trust: dict[str, Any] = {}
    if _judges(config):
        states = frozen_states(config, texts.all(), backbone, text)
        pairs, trust["confidence"] = with_confidence(pairs, states)
    return TrainingData(
        batches=Batches(
            pairs=pairs,
            text=text,
            means=means,
            vision=vision,
            vision_rows=torch.tensor([vision.row(example.id) for example in train]),
            batch_size=config.train.batch_size,
            seed=config.train.seed,
            every_language=config.data.every_language,
        ),
        validation=validation,
        texts=len(texts),
        backbone=backbone,
        encoder=encoder,
        provenance={
            **_counts(
                config, train_pictures=train, val_pictures=val, caption_pairs=pairs, texts=texts
            ),
            "languages": list(targets),
            "case": case,
            "encoders": {"text": backbone.fingerprint, "vision": encoder.fingerprint},
            **noise,
            **trust,
            **({"validated_on_translations": translated} if translated else {}),
        },
        left_out=left_out,
        goals=kept.goals(texts.all(), pairs.source) if kept and kept.goals else None,
        teacher_note=teacher_note_of(validation, val, source),
    )


def _judges(config: Config) -> bool:
    """Return whether translations are learned from, and weighed by their confidence."""
    return config.data.confidence and method_class(config.method).targets == "translations"


class _Items(NamedTuple):
    """Training and validation items that have features, and what those are."""

    train: list[Example]
    val: list[Example]
    vision: StoredFeatures
    encoder: VisionEncoder | FeatureFiles
    noise: dict[str, Any]


def _encode_items(config: Config, stores: Stores | None, kept: Kept | None) -> _Items:
    encoder = (
        kept.vision if kept else load_vision(config.vision.encoder, sampling=config.vision.films)
    )
    skipped = Skipped()
    examples, noise = spoilt(config, _read(config, skipped))
    if kept and kept.case == "lower":  # as queries will be
        examples = [lower_cased(example) for example in examples]
    _languages(config, [e for e in examples if e.split == "train"])  # before anything is encoded
    if not method_class(config.method).reads_media(settings_of(config)):
        train = [example for example in examples if example.split == "train"]
        none = NoFeatures([example.id for example in examples], encoder.width)
        return _Items(train, [], none, encoder, noise)  # epochs would be measured on images
    vision = stores.vision if stores else _encode_all_pictures(config, examples, encoder, skipped)
    if isinstance(encoder, FeatureFiles):  # whatever else is in their folder
        encoder = encoder.only([example for example in examples if vision.has(example.id)])
    train, val = (
        [e for e in examples if e.split == split and vision.has(e.id)] for split in ("train", "val")
    )
    return _Items(train, val, vision, encoder, noise)


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


def _counts(config: Config, **parts: Sized) -> dict[str, Any]:
    """Return the manifest's hash and the sizes of what is trained on, for the provenance."""
    sizes = {name: len(part) for name, part in parts.items()}
    return {"manifest_sha256": sha256_file(Path(config.data.manifest)), **sizes}
