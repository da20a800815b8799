"""What the loop is fed: a manifest, through frozen backbones, as batches and a validation set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cl2cm.data.manifest import Skipped, read_manifest
from cl2cm.data.pairs import CaptionPairs, Texts, caption_pairs, target_languages
from cl2cm.encode.encoding import encode_pictures, encode_texts, text_states
from cl2cm.encode.feature_files import FeatureFiles
from cl2cm.encode.protocol import VisionEncoder
from cl2cm.encode.rows import StoredFeatures
from cl2cm.encode.store import FeatureStore
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import PooledStates, StoredStates, TextSource, TokenIds
from cl2cm.encode.vision import load_vision
from cl2cm.errors import ConfigError, EncoderError, ManifestError
from cl2cm.methods.base import Method
from cl2cm.methods.registry import method_class
from cl2cm.metrics import metrics
from cl2cm.model.checkpoint import load_backbone
from cl2cm.model.config import Config
from cl2cm.model.networks import (
    CrossModalNetwork,
    TextNetwork,
    Whitening,
    masked_mean,
)
from cl2cm.model.retrieval import picture_vectors, sentence_vectors
from cl2cm.progress import say
from cl2cm.storage import sha256_file
from cl2cm.text import case_rule
from cl2cm.training.batches import Batches
from cl2cm.training.validation import (
    Validation,
    left_out_items,
    make_validation,
    say_validation,
    teacher_note_of,
)
from cl2cm.types import Example

WHITENING_TEXTS = 4096  # whose states are computed for it, where they are not stored
UNKNOWN_TEXTS = 200  # of a language, whose tokens are looked at
SOME_UNKNOWN, MOST_UNKNOWN = 0.1, 0.5  # share of a language's tokens: a warning, an error


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

    def all_sentences(self, network: TextNetwork) -> Tensor:
        """Unit vectors [texts, D] of all texts."""
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


def load_training_data(config: Config, stores: Stores | None = None) -> TrainingData:
    """Read the manifest and encode what the stores do not have yet.

    Args:
        config: all settings.
        stores: features of at least all that is needed, by the configured encoders; None makes
            stores of exactly that, in the cache.

    Raises:
        CL2CMError: whatever is wrong with settings, manifest, encoders or pictures.
    """
    backbone = load_backbone(config)
    encoder = load_vision(config.vision.encoder, sampling=config.vision.films)
    skipped = Skipped()
    examples = _read(config, skipped)
    _languages(config, [e for e in examples if e.split == "train"])  # before anything is encoded
    vision = stores.vision if stores else _encode_all_pictures(config, examples, encoder, skipped)
    if isinstance(encoder, FeatureFiles):  # whatever else is in their folder
        encoder = encoder.only([example for example in examples if vision.has(example.id)])
    train, val = (
        [e for e in examples if e.split == split and vision.has(e.id)] for split in ("train", "val")
    )
    texts = Texts()
    source = config.data.source
    languages = _languages(config, train)
    pairs = caption_pairs(
        train,
        texts,
        source=source,
        languages=languages,
        engines=config.data.engines,
        human=method_class(config.method).targets == "captions",
        min_quality=config.data.min_quality,
        quality_weighting=config.data.quality_weighting,
    )
    case = case_rule(texts.all())
    _check_unknown(backbone, pairs, texts.all(), source)
    validation = make_validation(val, texts, vision, [source, *languages], source)
    left_out = left_out_items(train, pairs, val, [source, *languages])
    say_validation(validation, val, [source, *languages])
    text, means = _text_sources(config, texts.all(), backbone, stores.text if stores else None)
    batches = Batches(
        pairs=pairs,
        text=text,
        means=means,
        vision=vision,
        vision_rows=torch.tensor([vision.row(example.id) for example in train]),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
    )
    return TrainingData(
        batches=batches,
        validation=validation,
        texts=len(texts),
        backbone=backbone,
        encoder=encoder,
        provenance={
            "manifest_sha256": sha256_file(Path(config.data.manifest)),
            "train_pictures": len(train),
            "val_pictures": len(val),
            "caption_pairs": len(pairs),
            "texts": len(texts),
            "languages": list(languages),
            "case": case,
            "encoders": {"text": backbone.fingerprint, "vision": encoder.fingerprint},
        },
        left_out=left_out,
        teacher_note=teacher_note_of(validation, val, source),
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


def _read(config: Config, skipped: Skipped) -> list[Example]:
    """All examples: test pictures too, so that evaluation and index find them encoded."""
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
    """Target languages; none where the method trains on source captions alone."""
    targets = method_class(config.method).targets
    if targets == "none":
        return ()
    return target_languages(
        train,
        source=config.data.source,
        chosen=config.data.languages,
        human=targets == "captions",
    )


def _text_sources(
    config: Config, texts: Sequence[str], backbone: TextBackbone, store: FeatureStore | None
) -> tuple[TextSource, PooledStates | None]:
    """Tokens of all texts; and their means, where frozen states go to heads without layers."""
    if config.text.freeze != "all":
        return TokenIds(backbone.tokenize(texts), backbone.special), None
    if store is None:
        root = Path(config.data.features) if config.data.features else None
        store = encode_texts(texts, backbone, root=root)
    rows = torch.tensor([store.row(text) for text in texts])
    means = None if config.network.layers else PooledStates(store.means(), rows)
    return StoredStates(store, rows), means


def _check_unknown(
    backbone: TextBackbone, pairs: CaptionPairs, texts: Sequence[str], source: str
) -> None:
    """Refuse training texts whose words the tokenizer does not know.

    Raises:
        EncoderError: most tokens of a language are unknown.
    """
    owner = np.repeat(pairs.group_language, np.diff(pairs.choices))
    rows = {code: pairs.target[owner == i] for i, code in enumerate(pairs.languages)}
    for language, of_language in {source: pairs.source, **rows}.items():
        distinct = np.unique(of_language)
        picked = distinct[:: max(1, len(distinct) // UNKNOWN_TEXTS)]
        share = backbone.unknown_share([texts[row] for row in picked.tolist()])
        if share > MOST_UNKNOWN:
            raise EncoderError(
                f"{backbone.name}, captions in {language!r}",
                expected="a vocabulary that has their words",
                found=f"{share:.0%} unknown tokens",
                remedy="choose a text encoder for that language, or check text.lower_case",
            )
        if share > SOME_UNKNOWN:
            say(f"warning: {share:.0%} of the tokens of {language} are unknown to {backbone.name}")
