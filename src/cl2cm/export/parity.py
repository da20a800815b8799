"""Whether an export computes what its run computes, and each item by itself.

The texts have from one word to 200 words in six languages, with emoji and mixed scripts; captions
and images of a manifest come on top. What is measured goes into the contract.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from cl2cm.errors import ExportError
from cl2cm.export.model import ExportedModel
from cl2cm.types import Example, Floats

EXACT = 1e-4  # largest difference of a component in fp32
ALONE = 1e-4  # between a text alone and the same text in a batch
WORDS = {
    "en": "a dog runs through deep snow while two children in red coats laugh and throw balls",
    "de": "ein Hund läuft durch tiefen Schnee während zwei Kinder in roten Mänteln Bälle werfen",
    "fr": "un chien court dans la neige épaisse pendant que deux enfants en manteau rouge rient",
    "tr": "İki çocuk kırmızı paltolarıyla gülerken bir köpek derin karda IŞIK gibi koşuyor",
    "ru": "собака бежит по глубокому снегу а двое детей в красных пальто смеются",
    "ar": "كلب يركض في الثلج العميق بينما يضحك طفلان يرتديان معطفين أحمرين",
    "zh": "一只 狗 在 深深的 雪地 里 奔跑 两个 穿 红色 外套 的 孩子 在 笑",
}
ODD = (
    *("🐕", "👩‍👩‍👧‍👦 on the beach", "🇵🇹 flag", "a 狗 в snow كلب", "naïve cafe\u0301", "x" * 300),
    *("A DOG IN CAPITALS", "tab\tand\nline", "soft\u00adhyphen", "“quotes” – dashes…", "1234.5 %"),
    *("\u200bzero\u200bwidth", "ﬁne ligature", "ＦＵＬＬ ｗｉｄｔｈ"),
)
LENGTHS = (1, 2, 3, 5, 8, 20, 60, 200)


class Sides(Protocol):
    """A run, as parity asks it."""

    def encode_text(self, texts: Sequence[str]) -> Floats: ...  # noqa: D102

    def encode_visual(self, items: Sequence[Any]) -> Floats: ...  # noqa: D102


class Parity(NamedTuple):
    """Largest differences between an export and its run, and between alone and in a batch."""

    texts: int
    text_difference: float
    images: int
    image_difference: float
    batch_difference: float


def parity_texts() -> list[str]:
    """Return texts of all lengths in all languages."""
    texts = []
    for sentence in WORDS.values():
        words = sentence.split()
        texts += [" ".join(words[i % len(words)] for i in range(length)) for length in LENGTHS]
    return [*texts, *ODD]


def parity_images(size: int, count: int = 8) -> list[Any]:
    """Return pixels uint8 [H, W, 3]: noise, gradients and plain colours, of several shapes."""
    rng = np.random.default_rng(0)
    images = []
    for number in range(count):
        height, width = size + 17 * (number % 3), size + 31 * (number % 4)
        noise = rng.integers(0, 256, (height, width, 3))
        slope = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
        plain = np.broadcast_to(rng.integers(0, 256, 3), (height, width, 3))
        images.append(np.asarray((noise, slope, plain)[number % 3], np.uint8))
    return images


def measure(
    run: Sides, export: ExportedModel, examples: Sequence[Example], *, most: int = 1000
) -> Parity:
    """Compare an export with its run on built-in texts and images, and on a manifest's.

    Args:
        run: the model that was exported.
        export: what was written.
        examples: of a manifest; may be empty.
        most: captions that are taken of them, and a fifth as many images.
    """
    captions = [c for e in examples for texts in e.captions.values() for c in texts]
    step = max(1, len(captions) // most)
    texts = list(dict.fromkeys([*parity_texts(), *captions[::step][:most]]))
    vectors = export.encode_text(texts)
    text_difference = _largest(vectors - run.encode_text(texts))
    few = texts[:: max(1, len(texts) // 64)]
    alone = np.concatenate([export.encode_text([text]) for text in few])
    together = export.encode_text(few)
    how = export.contract["vision"]["preprocess"]
    images: list[Any] = []
    if how is not None:
        images = parity_images(how["size"])
        images += [e for e in examples if e.path is not None][: most // 5]
    image_difference = batch = _largest(alone - together)
    if images:
        shown = export.encode_visual(images)
        image_difference = _largest(shown - run.encode_visual(images))
        ones = np.concatenate([export.encode_visual([image]) for image in images[:8]])
        batch = max(batch, _largest(ones - shown[:8]))
    else:
        image_difference = 0.0
    return Parity(len(texts), text_difference, len(images), image_difference, batch)


def check(parity: Parity, folder: str, *, text_exact: bool, vision_exact: bool) -> None:
    """Refuse an export that computes something else.

    Raises:
        ExportError: a side in fp32 differs from the run, or a vector depends on its batch.
    """
    run = "the vectors of the run"
    found = (
        ("texts", run, parity.text_difference, EXACT if text_exact else np.inf),
        ("images", run, parity.image_difference, EXACT if vision_exact else np.inf),
        ("items alone and in a batch", "equal vectors", parity.batch_difference, ALONE),
    )
    for what, expected, difference, most in found:
        if not difference <= most:
            raise ExportError(
                f"{folder}: vectors of {what}",
                expected=f"{expected}, to {most:g}",
                found=f"a difference of {difference:.2g}",
                remedy="report it with the run's config.toml; nothing was exported",
            )


def _largest(difference: Floats) -> float:
    return float(np.abs(difference).max()) if len(difference) else 0.0
