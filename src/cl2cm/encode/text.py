"""Text backbones: token ids to states H [B, T, D_b] ("Two networks" of the method page).

Any encoder of Transformers will do (BERT, XLM-R, DistilBERT, multilingual E5, ...), from a folder,
from the offline weights, or from the hub when it is named ``OWNER/NAME``. A backbone carries its
contract: prefix, case, length and layer, and its fingerprint names them together with the weights.
Frozen parts run in evaluation mode; the others are trained.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from cl2cm.encode.pinned_weights import OFFLINE_MODELS
from cl2cm.encode.sentence_folder import read_sentence_folder
from cl2cm.encode.text_layers import count_layers, first_layers, keep_layers
from cl2cm.encode.text_loading import (
    check_words,
    find_folder,
    hash_folder,
    load_model,
    load_tokenizer,
    token_ids,
    tokenizer_json,
)
from cl2cm.errors import EncoderError
from cl2cm.storage import sha256_text
from cl2cm.text import normalise
from cl2cm.types import Special

Freeze = str | int


class TextBackbone(nn.Module):
    """An encoder with its tokenizer and its contract; see ``load``.

    Attributes:
        name: the spec it was loaded by.
        prefix: put before every text.
        max_tokens: longest text, special tokens included.
        lower_case: whether texts are lower-cased first.
        width: D_b.
        special: tokens that are no words. The unknown token is a word, although an unknown one.
        tokenizer_hash: hexadecimal hash of the tokenizer's files.
        fingerprint: hexadecimal hash of weights, tokenizer and contract.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        layer: int | None,
        freeze: Freeze,
        prefix: str,
        max_tokens: int,
        lower_case: bool,
        lower_cased: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.prefix = name, prefix
        self.max_tokens, self.lower_case = max_tokens, lower_case or lower_cased
        self._tokenizer = load_tokenizer(name, folder)
        check_words(name, folder, self._tokenizer)
        self.model = load_model(name, folder)
        self._check_embedding()
        self._check_length()
        if not lower_cased:  # as its folder says that it was trained
            self._check_case()
        self._keep_layers(layer)
        self.width = int(self.model.config.hidden_size)
        self.special = self._find_special()
        self._frozen = self._freeze(freeze)
        self._all_frozen = not any(weight.requires_grad for weight in self.model.parameters())
        weights, self.tokenizer_hash = hash_folder(
            folder, pinned=name.partition(":")[2] in OFFLINE_MODELS
        )
        contract = f"{self.layers} {prefix!r} {max_tokens} {self.lower_case}"
        self.fingerprint = sha256_text("\n".join([weights, self.tokenizer_hash, contract]))
        self.eval()

    @classmethod
    def load(
        cls,
        spec: str,
        *,
        layer: int | None = None,
        freeze: Freeze = "all",
        prefix: str = "",
        max_tokens: int = 64,
        lower_case: bool = False,
        cache: Path | None = None,
    ) -> Self:
        """Load a backbone, float32, on the processor, in evaluation mode.

        Args:
            spec: ``hf:DIR``, ``hf:NAME`` of an offline model, or ``hf:OWNER/NAME`` on the hub;
                asked in this order.
            layer: give the states after this layer, from 1; later ones are dropped. None: the last.
            freeze: ``all``, ``embeddings``, a number of layers (and the embeddings), or ``none``.
            prefix: put before every text.
            max_tokens: longer texts are cut; the special tokens stay.
            lower_case: lower-case texts first; refused where the vocabulary has capitals.
            cache: folder with ``models/``; by default the user's.

        Raises:
            EncoderError: it cannot be found, or the contract does not fit it.
            WeightsError: its files are absent or damaged.
        """
        about = read_sentence_folder(spec, find_folder(spec, cache))
        about.check(spec, prefix=prefix, max_tokens=max_tokens)
        return cls(
            spec,
            about.folder,
            layer=layer,
            freeze=freeze,
            prefix=prefix,
            max_tokens=max_tokens,
            lower_case=lower_case,
            lower_cased=about.lower_case,
        )

    @property
    def layers(self) -> int:
        """Number of layers that it has, dropped ones not counted."""
        return count_layers(self.name, self.model)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids of each text, with prefix and special tokens, at most ``max_tokens``.

        Texts are normalised first (``text.py``): equal words have equal ids, however they are
        spelt. An empty text gives the special tokens and the prefix alone.
        """
        if not texts:
            return []
        whole = [self.prefix + normalise(text) for text in texts]
        if self.lower_case:
            whole = [text.lower() for text in whole]
        return token_ids(self.name, self._tokenizer, whole, self.max_tokens)

    def tokenizer_json(self) -> str:
        """Return the tokenizer as the text of a ``tokenizer.json``, without padding and cutting.

        Raises:
            EncoderError: it is written in Python and has no such form.
        """
        return tokenizer_json(self.name, self._tokenizer)

    def special_tokens(self) -> dict[str, str]:
        """Return the special tokens by their names, such as ``pad_token``."""
        named = self._tokenizer.special_tokens_map.items()
        return {name: str(token) for name, token in named if isinstance(token, str)}

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Return the share of unknown tokens in some texts, 0 to 1."""
        tokenizer = self._tokenizer
        unknown = tokenizer.unk_token_id
        others = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        if unknown is None or unknown in others:  # a vocabulary of bytes, which knows every word
            return 0.0
        tokens = [
            token
            for ids in self.tokenize(texts)
            for token in ids[self.special.start :]
            if token not in self.special.ids
        ]
        return tokens.count(unknown) / max(len(tokens), 1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return states of tokens.

        Args:
            ids: int64 [B, T].
            mask: bool [B, T], True on what is no padding.

        Returns:
            float32 [B, T, D_b]; what is on padding means nothing.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._all_frozen):
            result = self.model(input_ids=ids, attention_mask=mask.to(torch.int64))
        states: Tensor = result.last_hidden_state
        return states

    def train(self, mode: bool = True) -> Self:
        """Set training mode; what is frozen stays in evaluation mode, without dropout."""
        super().train(mode and not self._all_frozen)
        for part in self._frozen:
            part.eval()
        return self

    def _keep_layers(self, layer: int | None) -> None:
        count = self.layers
        if layer is None:
            return
        if not 1 <= layer <= count:
            found = f"layer = {layer}"
            raise self._misfit(f"a layer from 1 to {count}", found, "choose another layer")
        keep_layers(self.name, self.model, layer)

    def _freeze(self, freeze: Freeze) -> tuple[nn.Module, ...]:
        """Freeze what is said, and give its parts."""
        layers = self.layers
        count = 0 if freeze == "embeddings" else freeze
        embeddings = getattr(self.model, "embeddings", None) or self.model.get_input_embeddings()
        if freeze == "all":
            parts: tuple[nn.Module, ...] = (self.model,)
        elif freeze == "none":
            parts = ()
        elif isinstance(count, int) and 0 <= count <= layers:
            parts = (embeddings, *first_layers(self.name, self.model, count))
        else:
            expected = f"all, embeddings, none or 0 to {layers} layers"
            raise self._misfit(expected, f"freeze = {freeze!r}", "choose one of them")
        for part in parts:
            part.requires_grad_(False)
        return parts

    def _find_special(self) -> Special:
        """Return special ids, and how many tokens come before the first word of a text."""
        tokenizer = self._tokenizer
        added = tokenizer.added_tokens_decoder
        ids = {*tokenizer.all_special_ids, *(i for i, token in added.items() if token.special)}
        pad = tokenizer.pad_token_id
        if pad is None:
            remedy = "name its pad_token in tokenizer_config.json"
            raise self._misfit("a tokenizer that can pad", "no padding token", remedy)
        whole = (self.prefix.rstrip(), f"{self.prefix}a")
        alone, before_a = tokenizer([text.lower() if self.lower_case else text for text in whole])[
            "input_ids"
        ]
        same = [a == b for a, b in zip(alone, before_a, strict=False)]
        start = same.index(False) if False in same else len(same)
        if start + 2 > self.max_tokens:
            expected = f"at least {start + 2} tokens, for a prefix of {start}"
            found = f"max_tokens = {self.max_tokens}"
            raise self._misfit(expected, found, "set text.max_tokens higher")
        return Special(pad=pad, ids=frozenset(ids - {tokenizer.unk_token_id}), start=start)

    def _check_embedding(self) -> None:
        """Refuse a vocabulary with ids that the model has no vector for."""
        largest = max(self._tokenizer.get_vocab().values())
        table = self.model.get_input_embeddings()
        if isinstance(table, nn.Embedding) and largest >= table.num_embeddings:
            found = f"a tokenizer with ids to {largest}"
            expected = f"ids below {table.num_embeddings}, the size of the embedding"
            raise self._misfit(expected, found, "use the tokenizer that belongs to the model")

    def _check_length(self) -> None:
        table = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        if not isinstance(table, nn.Embedding):
            return
        # Where positions are counted from the padding id, the first ones are never used.
        unused = 0 if table.padding_idx is None else table.padding_idx + 1
        longest = table.num_embeddings - unused
        if self.max_tokens > longest:
            found = f"max_tokens = {self.max_tokens}"
            raise self._misfit(f"at most {longest} tokens", found, "set text.max_tokens lower")

    def _check_case(self) -> None:
        """Refuse to lose the capitals of a vocabulary that has them."""
        if not _has_capitals(self._tokenizer.get_vocab()):
            return
        if self.lower_case:
            found = "lower_case = true with a vocabulary that has capitals"
            raise self._misfit("texts as they are written", found, "set text.lower_case to false")
        upper, lower = (self._tokenizer.tokenize(text) for text in ("A DOG", "a dog"))
        if upper == lower and self._tokenizer.unk_token not in upper:
            found = "one that lower-cases, with a vocabulary that has capitals"
            remedy = "set do_lower_case to false in its tokenizer_config.json"
            raise self._misfit("a tokenizer that keeps case", found, remedy)

    def _misfit(self, expected: str, found: str, remedy: str) -> EncoderError:
        return EncoderError(self.name, expected=expected, found=found, remedy=remedy)


def _has_capitals(vocabulary: dict[str, int]) -> bool:
    """Return whether more than strays and special tokens are written with capitals."""
    capitals = sum(token != token.lower() for token in vocabulary if token[:1] not in "[<")
    return capitals > len(vocabulary) // 100
