"""Precomputed features instead of a vision encoder, ``features:PATH``.

Items are found in the layouts of ``feature_layouts.py`` by their ``features`` id, or by their own.
Images without stored features cannot be encoded.

No file says which encoder made the features. So a run remembers their width and hashes of a sample
of its items (`Agreed`): features at its path must have them, whatever else is there by now and
whatever the layout. Where the user names another place, items that the run does not know are taken
on trust, and those that it knows are compared.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cl2cm.encode.chosen_features import ChosenFeatures
from cl2cm.encode.feature_layouts import Layout, open_layout
from cl2cm.errors import EncoderError, MediaError, OnSkip, StoreError
from cl2cm.progress import say, track
from cl2cm.text import spellings
from cl2cm.types import Example, Floats

SAMPLED = 64  # items whose numbers are in the fingerprint
LARGEST = 1e15  # of a feature: the layer norm that follows squares and sums them in float32


class Agreed(NamedTuple):
    """What a run knows of the features that it was trained on.

    Attributes:
        width: D_v.
        fingerprint: of them.
        samples: name of an item → hash of its numbers; none in runs of cl2cm 0.1.0.
        elsewhere: the user names another place than the run does.
        allowed: whether they may be opened; not where the run alone names a place outside.
    """

    width: int
    fingerprint: str
    samples: Mapping[str, str]
    elsewhere: bool = False
    allowed: bool = True


class FeatureFiles:
    """The features of some items, by their names.

    Args:
        name: what they are called in messages and records.
        path: folder or file of the features.
        agreed: what a run knows of them; they are then opened when an item is asked for, so that
            a run whose features are elsewhere can still be asked for texts.

    Raises:
        EncoderError: nothing is there.
        StoreError: what is there is of no known layout, damaged, or not what was agreed.
        MissingExtraError: h5py is not installed.
    """

    def __init__(self, name: str, path: Path, agreed: Agreed | None = None) -> None:
        self.name = name
        self.path = path
        self.agreed = agreed
        self._opened: Layout | None = None
        self._rows: dict[str, int] = {}
        self._sound: set[int] = set()  # rows whose numbers were read and are finite
        self._width = self._layout.width if agreed is None else agreed.width
        self._fingerprint = "" if agreed is None else agreed.fingerprint

    @property
    def width(self) -> int:
        """D_v."""
        return self._width

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of the names and of a sample of the numbers, or what was agreed."""
        if not self._fingerprint:
            self._fingerprint = self.hash_of(sorted(self._rows))
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._layout.names)

    @property
    def preprocessing(self) -> str:
        """What is known of it, as JSON for the record."""
        items = {} if self.agreed and not self.path.exists() else {"items": len(self)}
        return json.dumps({"features": str(self.path)} | items, sort_keys=True)

    @property
    def _layout(self) -> Layout:
        """The features, which are opened when they are first asked for."""
        if self._opened is None:
            if self.agreed and not self.agreed.allowed:
                raise EncoderError(
                    self.name,
                    expected="features inside the run, or in a folder that you have named",
                    found="a path that the run alone names",
                    remedy=f"name them: --features PATH, or trust it: --model-root {self.path}",
                )
            if not self.path.exists():
                raise EncoderError(
                    self.name,
                    expected="features",
                    found="no such file or folder",
                    remedy="check the path" if self.agreed is None else "name it: --features PATH",
                )
            layout = open_layout(self.path)
            self._rows = {item: row for row, item in enumerate(layout.names)}
            if not self._rows:
                raise StoreError(
                    str(self.path),
                    expected="features of items",
                    found="no item",
                    remedy="check the path",
                )
            self._opened = layout
            if self.agreed is not None:
                self._check_agreed(self.agreed)
        return self._opened

    def _check_agreed(self, agreed: Agreed) -> None:
        """Compare with what a run knows; items that it does not know say nothing."""
        known = [name for name in agreed.samples if name in self._rows]
        if self._layout.width != agreed.width:
            self._disagree(f"features of width {agreed.width}", f"width {self._layout.width}")
        for name in known:
            if self._digest(name) != agreed.samples[name]:
                self._disagree(f"features of {name!r} as in training", "other numbers")
        if agreed.elsewhere:
            if not known:
                say(
                    f"{self.path}: no item of the run's training is there, so it cannot be "
                    "checked that the features are of the same encoder"
                )
        elif agreed.samples and not known:
            self._disagree("the items that it was trained on", f"{len(self._rows)} others")
        elif not agreed.samples and self.hash_of(sorted(self._rows)) != agreed.fingerprint:
            self._disagree("the features that it was trained on", "others")

    def _disagree(self, expected: str, found: str) -> None:
        self._opened = None
        raise StoreError(
            str(self.path),
            expected=expected,
            found=found,
            remedy="restore them, pass the same encoder's features with --features, or train again",
        )

    def only(self, examples: Sequence[Example]) -> "FeatureFiles":
        """Return the features of some items only; other items do not change the fingerprint.

        Items without features are passed over.
        """
        wanted = {self._row(example) for example in examples}
        chosen = copy(self)
        chosen._rows = {name: row for name, row in self._rows.items() if row in wanted}
        chosen._fingerprint = "" if self.agreed is None else self.agreed.fingerprint
        return chosen

    @property
    def names(self) -> Sequence[str]:
        """The items, by row."""
        return self._layout.names

    def samples(self) -> dict[str, str]:
        """Return hashes of the numbers of some items, by name, for `Agreed`."""
        if self.agreed is not None and self.agreed.samples:
            return dict(self.agreed.samples)
        return {name: self._digest(name) for name in _spread(sorted(self._rows))}

    def has(self, example: Example) -> bool:
        """Return whether the features of an item are there."""
        return self._row(example) >= 0

    def frames(self, row: int) -> Floats:
        """Return features float32 [F, D_v] of one item, F at least 1.

        Raises:
            StoreError: they are of another width, not finite, or too large to compute with.
        """
        stored = self._layout.frames(row)
        with np.errstate(over="ignore"):  # float64 that is too large becomes infinite
            values: Floats = np.array(np.atleast_2d(_numbers(stored)), dtype=np.float32)
        right = values.ndim == 2 and values.shape[1] == self.width and len(values)
        if right and bool((np.abs(values) <= LARGEST).all()):  # False for NaN
            return values
        raise StoreError(
            f"{self.path}: {self._layout.names[row]!r}",
            expected=f"finite numbers [{self.width}] or [F, {self.width}], at most {LARGEST:g}",
            found=_worst(values) if right else f"{stored.dtype} {list(stored.shape)}",
            remedy="compute its features again",
        )

    def choose(
        self,
        examples: Sequence[Example],
        *,
        skip_bad: bool = False,
        on_skip: OnSkip | None = None,
    ) -> "ChosenFeatures":
        """Return the features of some items, by the items' own ids; each is read once, to check it.

        Raises:
            MediaError: an item has none, and ``skip_bad`` is not set; or none of them has.
            StoreError: features of an item are damaged or not finite, and ``skip_bad`` is not set.
        """
        rows = []
        with track("check features", len(examples)) as advance:
            for example in examples:
                row, error = self._checked(example)
                rows.append(row)
                if error is not None and not skip_bad:
                    raise error
                if error is not None and on_skip:
                    on_skip(example.id, error)
                advance(1)
        if examples and max(rows) < 0:
            raise self._missing(f"{len(examples)} items", "features of at least one")
        return ChosenFeatures(self, [example.id for example in examples], rows)

    def known(self, examples: Sequence[Example], on_skip: OnSkip | None = None) -> list[Example]:
        """Return the items whose features are there; the others are told to ``on_skip``.

        Raises:
            MediaError: there is none.
        """
        chosen = self.choose(examples, skip_bad=True, on_skip=on_skip)
        return [example for example in examples if chosen.has(example.id)]

    def _row(self, example: Example) -> int:
        """Return the row of an item's features; -1 if there are none."""
        if not self._layout.names:
            return -1
        rows = (self._rows.get(name, -1) for name in spellings(_key(example)))
        return next((row for row in rows if row >= 0), -1)

    def _checked(self, example: Example) -> tuple[int, MediaError | StoreError | None]:
        """Return the row of an item and None, or -1 and what is wrong with its features."""
        row = self._row(example)
        if row < 0:
            return -1, self._missing(f"item {example.id!r}", f"features of {_key(example)!r}")
        if row not in self._sound:
            try:
                self.frames(row)
            except StoreError as error:
                return -1, error
            self._sound.add(row)
        return row, None

    def hash_of(self, names: Sequence[str]) -> str:
        """Of the width, all names, and the numbers of some."""
        digest = hashlib.sha256("\n".join([str(self._layout.width), *names]).encode())
        for name in _spread(names):
            values = self.frames(self._rows[name])
            digest.update(f"{name} {len(values)}\n".encode())
            digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()

    def _digest(self, name: str) -> str:
        """Of the numbers of one item."""
        values = self.frames(self._rows[name])
        digest = hashlib.sha256(f"{len(values)}\n".encode())
        digest.update(values.astype("<f4").tobytes())
        return digest.hexdigest()

    def _missing(self, subject: str, expected: str) -> MediaError:
        found = f"features of {len(self)} others, such as {self._layout.names[0]!r}"
        remedy = "check the ids of the manifest, or leave such items out"
        subject = f"{self.name}: {subject}"
        return MediaError(subject, expected=expected, found=found, remedy=remedy)


def _spread(names: Sequence[str]) -> list[str]:
    """Return some names, evenly spread over all."""
    places = np.linspace(0, len(names) - 1, min(SAMPLED, len(names))).round().astype(int)
    return [names[place] for place in places]


def _worst(values: Floats) -> str:
    finite = values[np.isfinite(values)]
    if len(finite) < values.size:
        return f"{values.size - len(finite)} that are NaN or infinite"
    return f"{float(np.abs(values).max()):g}"


def _key(example: Example) -> str:
    return example.id if example.features is None else example.features


def _numbers(stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what is stored, or nothing of that width where it is no numbers."""
    return stored if stored.dtype.kind in "fiu" else np.empty((0, 0))
