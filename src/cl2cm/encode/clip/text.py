"""The text side of an off-the-shelf model: from texts to token ids to vectors.

| model | case | length | attention | pooling |
|---|---|---|---|---|
| CLIP | its tokenizer lowers it | up to 77 | causal, masked | end of text |
| SigLIP, SigLIP 2 | lowered here | padded to 64 | no mask, padding included | last position |
| Chinese-CLIP | its tokenizer lowers it | up to 52 | masked | first token |
| Multilingual-CLIP | kept | up to 512 | masked | mean |
| sentence-transformers | as its files say | as its files say | masked | as its files say |
| open_clip | its tokenizer decides | its context length | masked | end of text, or mean |

Texts are normalised first (``text.py`` of the package). A text that is too long loses its end and
keeps its special tokens; the first time, that is reported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cl2cm.encode.clip.hashes import hash_layout
from cl2cm.encode.clip.layout import Layout, read_json
from cl2cm.encode.clip.open_clip import Tower, text_tower
from cl2cm.encode.clip.sentences import (
    multilingual_clip,
    of_open_clip,
    sentence_transformer,
    width_of,
)
from cl2cm.encode.pretrained import LOADING, check_weights
from cl2cm.encode.text_loading import (
    check_words,
    load_tokenizer,
    token_ids,
    tokenizer_json,
)
from cl2cm.encode.tokens import pad_tokens
from cl2cm.errors import EncoderError
from cl2cm.progress import say
from cl2cm.text import normalise
from cl2cm.types import Special

CHINESE_CLIP_TOKENS = 52  # of its training; its positions would go further
_FIXED = {"siglip", "siglip2"}


class Contract(NamedTuple):
    """How texts become ids.

    max_tokens: longest text, special tokens included; fixed: every text is padded to it;
    lower_case: texts are lowered here; prefix: put before every text.
    """

    max_tokens: int
    fixed: bool = False
    lower_case: bool = False
    prefix: str = ""


class TextSide(nn.Module):
    """A loaded text side; see `load_text_side`.

    Attributes:
        name: the spec it was loaded by.
        contract: how texts become ids.
        special: the padding token, and tokens that are no words.
        tokenizer_hash: hexadecimal hash of the tokenizer's files.
        fingerprint: hexadecimal hash of weights, tokenizer and contract.
        width: D, of the vectors.
        pads_left: whether a padded text is at the end.
    """

    def __init__(self, name: str, layout: Layout, model: nn.Module | None = None) -> None:
        super().__init__()
        folder = tokenizer_folder(layout)
        self.name = name
        self._tokenizer = load_tokenizer(name, folder)
        check_words(name, folder, self._tokenizer)
        self.pads_left = _pads_left(self._tokenizer)
        self.model, told = _load(name, layout, model)
        longest = int(min(self._tokenizer.model_max_length, told.max_tokens))
        self.contract = told if told.fixed else told._replace(max_tokens=longest)
        self.special = self._find_special()
        self.tokenizer_hash, self.fingerprint = hash_layout(layout)
        self._said = False
        self.eval().requires_grad_(False)
        self.width = self._find_width()

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, padded if the contract says so."""
        ids = self.ids(texts)
        return [self._padded(row) for row in ids] if self.contract.fixed else ids

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without padding."""
        if not texts:
            return []
        whole = [self.contract.prefix + normalise(text) for text in texts]
        if self.contract.lower_case:
            whole = [text.lower() for text in whole]
        most = self.contract.max_tokens
        ids = token_ids(self.name, self._tokenizer, whole, most)
        if not self._said:
            self._tell_of_cut([t for t, i in zip(whole, ids, strict=True) if len(i) >= most])
        return ids

    @property
    def prefix(self) -> str:
        """What is put before every text."""
        return self.contract.prefix

    @property
    def lower_case(self) -> bool:
        """Whether texts are lower-cased first."""
        return self.contract.lower_case

    @property
    def max_tokens(self) -> int:
        """Longest text, special tokens included."""
        return self.contract.max_tokens

    def tokenizer_json(self) -> str:
        """Return the tokenizer as the text of a ``tokenizer.json``, without padding and cutting.

        Raises:
            EncoderError: it is written in Python and has no such form.
        """
        return tokenizer_json(self.name, self._tokenizer)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Map ids int64 [B, T] and mask bool [B, T] -> vectors [B, D], not normalised."""
        with torch.no_grad():
            vectors: Tensor = self.model(ids, mask)
        return vectors

    def _padded(self, row: list[int]) -> list[int]:
        more = [self.special.pad] * (self.contract.max_tokens - len(row))
        return [*more, *row] if self.pads_left else [*row, *more]

    def _tell_of_cut(self, long: Sequence[str]) -> None:
        most = self.contract.max_tokens
        for text in long:
            (ids,) = token_ids(self.name, self._tokenizer, [text], None)
            if len(ids) > most:
                self._said = True
                say(f"texts longer than {most} tokens are truncated, such as one of {len(ids)}")
                return

    def _find_special(self) -> Special:
        tokenizer = self._tokenizer
        pad = tokenizer.pad_token_id
        if pad is None and self.contract.fixed:
            raise EncoderError(
                self.name,
                expected="a tokenizer that can pad",
                found="no padding token",
                remedy="name its pad_token in tokenizer_config.json",
            )
        pad = tokenizer.eos_token_id if pad is None else pad
        return Special(pad or 0, frozenset(tokenizer.all_special_ids), start=0)

    def _find_width(self) -> int:
        """Return the width of one text's vector; ids that the model does not know are an error."""
        table = next((m for m in self.modules() if isinstance(m, nn.Embedding)), None)
        largest = max(self._tokenizer.get_vocab().values())
        if table is not None and largest >= table.num_embeddings:
            raise EncoderError(
                self.name,
                expected=f"ids below {table.num_embeddings}, the size of the embedding",
                found=f"a tokenizer with ids to {largest}",
                remedy="use the tokenizer that belongs to the model",
            )
        tokens = pad_tokens(self.tokenize(["a"]), self.special)
        return int(self(tokens.values, tokens.mask).shape[1])


class _TwoSided(nn.Module):
    """The text side of a model of Transformers that has both."""

    def __init__(self, model: Any, *, masked: bool) -> None:  # noqa: ANN401
        super().__init__()
        self.whole, self._masked = model, masked

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        masks = {"attention_mask": mask.long()} if self._masked else {}
        vectors: Tensor = self.whole.get_text_features(input_ids=ids, **masks).pooler_output
        return vectors


class _OneTower(nn.Module):
    """A text tower of CLIP by itself."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.tower = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        vectors: Tensor = self.tower(input_ids=ids, attention_mask=mask.long()).text_embeds
        return vectors


def _load(name: str, layout: Layout, model: nn.Module | None) -> tuple[nn.Module, Contract]:
    """Return the model of a text side and its contract; files are known to be harmless."""
    layout.check()
    if layout.kind == "open_clip":
        found = text_tower(layout.folder)
        if isinstance(found, Tower):
            config: Any = found.model.config
            return _OneTower(found.model), Contract(config.max_position_embeddings)
        sentences = of_open_clip(found)
    elif layout.kind == "m-clip":
        sentences = multilingual_clip(layout.folder)
    elif layout.kind == "sentence-transformers":
        sentences = sentence_transformer(name, layout)
    elif layout.two_sided:
        return _two_sided(layout, model)
    else:
        raise ValueError(f"{layout.model_type or 'a model'}, which has no text side like CLIP's")
    contract = Contract(
        sentences.max_tokens, lower_case=sentences.lower_case, prefix=sentences.prefix
    )
    return sentences.model, contract


def _two_sided(layout: Layout, model: Any) -> tuple[nn.Module, Contract]:  # noqa: ANN401
    if model is None:
        from transformers import AutoModel  # noqa: PLC0415 - heavy

        model, info = AutoModel.from_pretrained(
            str(layout.folder),
            **LOADING,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        check_weights(info)
    fixed = layout.model_type in _FIXED
    most = int(model.config.text_config.max_position_embeddings)
    if layout.model_type == "chinese_clip":
        most = min(most, CHINESE_CLIP_TOKENS)
    return _TwoSided(model, masked=not fixed), Contract(most, fixed=fixed, lower_case=fixed)


def tokenizer_folder(layout: Layout) -> Path:
    """Return the folder with the tokenizer: the first module's, where there are modules."""
    return layout.modules[0].folder if layout.modules else layout.folder


def _pads_left(tokenizer: Any) -> bool:  # noqa: ANN401
    """Return whether a tokenizer pads on the left by itself; ours has been told not to."""
    told = tokenizer.init_kwargs.get("padding_side", type(tokenizer).padding_side)
    return bool(told == "left")


def text_width(layout: Layout) -> int | None:
    """Return the width of a text side's vectors from its settings, without loading it."""
    if layout.kind == "open_clip":
        found = read_json(layout.folder / "open_clip_config.json").get("model_cfg", {})
        told = found.get("embed_dim") if isinstance(found, dict) else None
    elif layout.two_sided:
        config = read_json(layout.folder / "config.json")
        inside = config.get("text_config") or {}
        told = config.get("projection_dim")
        if layout.model_type in _FIXED:
            told = inside.get("projection_size", inside.get("hidden_size"))
    else:
        told = width_of(layout)
    return told if type(told) is int else None
