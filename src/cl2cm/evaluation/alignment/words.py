"""Split texts into words and compute their token vectors.

A word is a run of letters and digits, or one mark of punctuation; in scripts without spaces it is
a token of the tokenizer. Special tokens, the prefix and tokens of nothing but a space have no part
in any. Where a token reaches over two words, it belongs to both by the share of its characters.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cl2cm.encode.steps import text_states
from cl2cm.encode.text import TextBackbone
from cl2cm.encode.tokens import pad_tokens
from cl2cm.errors import EncoderError, QueryError
from cl2cm.methods.word_level import TransportConfig
from cl2cm.model.networks import TextNetwork
from cl2cm.text import normalise

Span = tuple[int, int]  # first character of a word, and the one after its last

# Scripts without spaces: Thai to Lao, Tibetan, Myanmar, Khmer, kana, bopomofo, and Han.
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF)),
    *((0x3040, 0x312F), (0x31A0, 0x31BF), (0x31F0, 0x31FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)


@dataclass(frozen=True, slots=True)
class Words:
    """A text as words and as the vectors of its tokens.

    Attributes:
        words: the W words.
        tokens: [T, D], unit vectors of the tokens that have a part in a word.
        salience: [T], their norms before normalisation.
        share: [W, T], the part of each token's characters in each word; columns sum to 1.
    """

    words: tuple[str, ...]
    tokens: Tensor
    salience: Tensor
    share: Tensor


class Reader:
    """A network that reads words.

    Attributes:
        backbone: the text backbone with its tokenizer.
        network: the network; None gives the backbone's own states.
        transport: the settings of Eq. 3.
        side: ``teacher``, ``student`` (of a run without a teacher) or ``backbone``.
    """

    def __init__(
        self,
        backbone: TextBackbone,
        network: TextNetwork | None,
        transport: TransportConfig,
        side: str,
    ) -> None:
        self.backbone, self.transport, self.side = backbone, transport, side
        self.network = None if network is None else network.eval()

    def read(self, text: str, spans: Sequence[Span] | None = None) -> Words:
        """Return the words and token vectors of a text.

        Args:
            text: any text with at least one word; normalised first where no spans are given.
            spans: where its words are in a normalised text; None finds them.

        Raises:
            QueryError: the text has no word, or more than the backbone reads.
            EncoderError: the tokenizer cannot say where its tokens stand.
        """
        if spans is None:
            text = normalise(text)
        pieces = token_spans(self.backbone, text)
        words = word_spans(text, pieces) if spans is None else list(spans)
        share = token_shares(words, pieces)
        read = share.any(1)
        if words and not read[-1] and len(pieces) >= self.backbone.max_tokens:
            expected = f"at most {self.backbone.max_tokens} tokens"
            raise QueryError(
                f"text {text[:40]!r}", expected=expected, found="more", remedy="shorten it"
            )
        if not read.any():
            raise QueryError("text", expected="some words", found=repr(text), remedy="type a word")
        if spans is None:  # what the tokenizer swallows, such as control characters, is no word
            words, share = [w for w, r in zip(words, read.tolist(), strict=True) if r], share[read]
        used = share.any(0)
        tokens, salience = self._vectors(text)
        return Words(
            tuple(text[first:last] for first, last in words),
            tokens[used],
            salience[used],
            share[:, used],
        )

    @torch.no_grad()
    def _vectors(self, text: str) -> tuple[Tensor, Tensor]:
        """Return the unit vectors [T, D] of all tokens, and their norms [T] before."""
        tokens = pad_tokens(self.backbone.tokenize([text]), self.backbone.special)
        if self.network is None or self.network.backbone is None:
            tokens = text_states(self.backbone, tokens)
        if self.network is None:
            return F.normalize(tokens.values[0], dim=-1), tokens.values[0].norm(dim=-1)
        encoded = self.network.encode_text(tokens)
        return encoded.tokens[0], encoded.salience[0]


def token_spans(backbone: TextBackbone, text: str) -> list[Span]:
    """Return characters of a text that each token stands for; an empty span for what is no word.

    Raises:
        EncoderError: the tokenizer cannot say.
    """
    tokenizer = backbone._tokenizer
    if not tokenizer.is_fast:
        raise EncoderError(
            backbone.name,
            expected="a tokenizer that reports where its tokens are",
            found="a slow tokenizer",
            remedy="add its tokenizer.json",
        )
    whole = backbone.prefix + text
    places = list(range(len(whole)))
    if backbone.lower_case:  # some capitals become two characters
        places = [i for i, letter in enumerate(whole) for _ in letter.lower()]
        whole = whole.lower()
    places.append(places[-1] + 1 if places else 0)
    encoded = tokenizer(
        whole, truncation=True, max_length=backbone.max_tokens, return_offsets_mapping=True
    )
    names = tokenizer.convert_ids_to_tokens(encoded["input_ids"])
    start = len(backbone.prefix)
    spans = [
        (places[first] - start, places[last] - start) for first, last in encoded["offset_mapping"]
    ]
    return [
        (0, 0) if last <= 0 or not name.strip("▁ ") else (max(first, 0), last)
        for name, (first, last) in zip(names, spans, strict=True)
    ]


def word_spans(text: str, pieces: Sequence[Span]) -> list[Span]:
    """Return where the words of a text are.

    Args:
        text: the text.
        pieces: what its tokens stand for; they cut scripts without spaces into words.
    """
    kinds = [_kind(letter) for letter in text]
    cuts = {place for piece in pieces for place in piece}
    spans: list[Span] = []
    for place, kind in enumerate(kinds):
        if kind == "space":
            continue
        goes_on = place > 0 and kinds[place - 1] == kind and kind != "mark"
        if goes_on and not (kind == "unspaced" and place in cuts):
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
    return spans


def _kind(letter: str) -> str:
    category = unicodedata.category(letter)
    if letter.isspace() or category == "Cc":
        return "space"
    if category[0] not in "LMN" and category != "Cf":  # joiners stand inside of words
        return "mark"
    code = ord(letter)
    return "unspaced" if any(first <= code <= last for first, last in _UNSPACED) else "letter"


def token_shares(words: Sequence[Span], pieces: Sequence[Span]) -> Tensor:
    """Part of each token's characters in each word, [W, T]; columns sum to 1, or to 0."""
    share = torch.zeros(len(words), len(pieces))
    for column, (begin, end) in enumerate(pieces):
        for row, (first, last) in enumerate(words):
            share[row, column] = max(0, min(end, last) - max(begin, first))
    return share / share.sum(0).clamp_min(1)
