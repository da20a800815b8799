"""The catalogue of recommended off-the-shelf models, with use, size and licence.

Any model of the same kinds can be used (see ``layout.py``); these are a choice. Sizes are
approximate sizes of the weights; licences are as the authors state them, or "see its card" where
we are not sure.
"""

from dataclasses import dataclass

from cl2cm.encode.pretrained import is_cached


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model, or a pair of an image side and a text side.

    Attributes:
        image: OWNER/NAME of the model, or of the image side of a pair.
        text: OWNER/NAME of the text side of a pair, or "".
        use: what it is for.
        languages: that its text side knows.
        dim: width of its vectors.
        megabytes: of the weights, about.
        licence: of the weights.
        note: what has to be done before, or "".
        also_fits: further image sides that have the same vectors as ``image``.
    """

    image: str
    text: str
    use: str
    languages: str
    dim: int
    megabytes: int
    licence: str
    note: str = ""
    also_fits: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """As it is given to a command."""
        return f"hf:{self.image}+{self.text}" if self.text else f"hf:{self.image}"

    @property
    def here(self) -> bool:
        """Whether its files are in the local hub cache."""
        return is_cached(self.image) and (not self.text or is_cached(self.text))


_BIN = "if it has pytorch_model.bin alone, convert it first: see docs/models.md"
MODELS = (
    KnownModel(
        "google/siglip2-base-patch16-224",
        "",
        "the first choice: many languages, one model",
        "over 100",
        768,
        1500,
        "Apache-2.0",
    ),
    KnownModel(
        "sentence-transformers/clip-ViT-B-32",
        "sentence-transformers/clip-ViT-B-32-multilingual-v1",
        "many languages on a slow machine",
        "over 50",
        512,
        1150,
        "Apache-2.0 (text side), MIT (CLIP)",
        also_fits=("openai/clip-vit-base-patch32",),
    ),
    KnownModel(
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        "",
        "many languages, trained on open data",
        "about 100",
        512,
        1460,
        "MIT",
        note=_BIN,
    ),
    KnownModel(
        "openai/clip-vit-base-patch32",
        "M-CLIP/XLM-Roberta-Large-Vit-B-32",
        "many languages: an image side that is fast, a text side that is large",
        "48 (XLM-R: 100)",
        512,
        2850,
        "see its card (text side), MIT (CLIP)",
        note=_BIN,
        also_fits=("sentence-transformers/clip-ViT-B-32",),
    ),
    KnownModel(
        "openai/clip-vit-large-patch14",
        "M-CLIP/XLM-Roberta-Large-Vit-L-14",
        "many languages, better and slower",
        "48 (XLM-R: 100)",
        768,
        3950,
        "see its card (text side), MIT (CLIP)",
        note=_BIN,
        also_fits=("sentence-transformers/clip-ViT-L-14",),
    ),
    KnownModel(
        "openai/clip-vit-base-patch32",
        "",
        "English; the smallest",
        "English",
        512,
        605,
        "MIT (code)",
        note=_BIN,
    ),
    KnownModel(
        "google/siglip-base-patch16-224",
        "",
        "English, better than CLIP of its size",
        "English",
        768,
        815,
        "Apache-2.0",
    ),
    KnownModel(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "",
        "English, trained on open data",
        "English",
        512,
        605,
        "MIT",
    ),
    KnownModel(
        "OFA-Sys/chinese-clip-vit-base-patch16",
        "",
        "Chinese",
        "Chinese",
        512,
        755,
        "see its card",
    ),
)


def partners(text: str) -> tuple[str, ...]:
    """Return the image models that a text model was trained for; empty if unknown."""
    found = [model for model in MODELS if model.text == text]
    return tuple(name for model in found for name in (model.image, *model.also_fits))
