"""An exported model in the place of a run: the same calls, the same vectors, without torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cl2cm.errors import EncoderError, ExportError, MediaError
from cl2cm.export.checked_reader import CheckedReader
from cl2cm.export.contract import check_hash, check_side, check_sizes, read_contract
from cl2cm.media.decoding import Decoded, decode_parallel
from cl2cm.media.images import Preprocess, Source, is_video
from cl2cm.media.kinds import source_of
from cl2cm.media.user_input import Visual, sources
from cl2cm.model.finite import check_vectors
from cl2cm.model.inputs import text_list
from cl2cm.types import Example, Floats, Sampling, StrPath

TOLERANCE = {"fp32": 1e-3, "fp16": 5e-3, "int8": 2e-2}  # of an example; kernels differ by machine
IMAGES_AT_ONCE = 8
_AGAIN = "restore the folder, or export the run again"


class ExportedModel:
    """An exported model, for search, indexing and evaluation; see `load_export`.

    Attributes:
        run: the export's folder.
        reader: what runs the graphs.

    Example:
        >>> import cl2cm
        >>> model = cl2cm.load("export")
        >>> texts = model.encode_text(["red square", "blue bar"])
        >>> images = model.encode_images(["images/red-square.png"])
        >>> (texts @ images.T).argmax()
        np.int64(0)
    """

    def __init__(self, folder: Path, contract: dict[str, Any], *, threads: int = 0) -> None:
        self.run: StrPath = folder
        self.reader = CheckedReader(folder, contract, threads=threads)
        self.contract = contract
        how, sampling = contract["vision"]["preprocess"], contract["vision"]["sampling"]
        self._preprocess = how and Preprocess(
            how["size"], how["shorter_side"], how["resample"], how["stretch"]
        )
        self._sampling = Sampling(sampling["kind"], sampling["frames"], sampling["fps"])

    @property
    def fingerprint(self) -> str:
        """Name of the space of image vectors: the run's, where the vision side is exact."""
        return str(self.contract["fingerprint"])

    @property
    def dim(self) -> int:
        """D, the width of a vector."""
        return int(self.contract["dim"])

    def encode_text(self, texts: Iterable[str]) -> Floats:
        """Return unit vectors float32 [N, D] of N texts, in any language.

        Args:
            texts: a list of them.

        Raises:
            QueryError: a text is empty, or one alone in place of a list.
            NumberError: a vector is not finite.
        """
        listed = text_list(texts)
        vectors = self.reader.encode_text(listed)
        check_vectors(vectors, listed, "text")
        return vectors

    def encode_visual(self, items: Iterable[Visual]) -> Floats:
        """Return unit vectors float32 [N, D] of N images and videos.

        Args:
            items: paths, examples, or images in memory, as for a run.

        Raises:
            MediaError: one of them cannot be read, or one alone in place of a list.
            EncoderError: the run was trained on stored features; its images cannot be encoded.
            MissingExtraError: there is a video, and the extra ``video`` is not installed.
            NumberError: a vector is not finite.
        """
        given = sources(items)
        if self._preprocess is None:
            raise EncoderError(
                str(self.run),
                expected="a run with a vision encoder",
                found="one that was trained on stored features",
                remedy="encode the features with reader.encode_frames",
            )
        vectors = np.zeros((len(given), self.dim), np.float32)
        for rows, frames in self._frames(given):
            mask = np.ones(frames.shape[:2], bool)
            vectors[rows] = self.reader.encode_frames(frames, mask)
        check_vectors(vectors, [_name(source) for source in given], "item")
        return vectors

    def encode_images(self, images: Iterable[Visual]) -> Floats:
        """Return unit vectors float32 [N, D] of N images; another name of `encode_visual`."""
        return self.encode_visual(images)

    def vectors_by_id(
        self,
        examples: Sequence[Example],
        *,
        skip_bad: bool = False,
        on_skip: Any = None,  # noqa: ANN401 - called with id and error
    ) -> dict[str, Floats]:
        """Return id → unit vector float32 [D] of each example.

        Args:
            examples: at least one.
            skip_bad: leave out items that cannot be read; all are told to ``on_skip``.
            on_skip: told id and error of each.

        Raises:
            MediaError: an item cannot be read, and ``skip_bad`` is False.
        """
        found: dict[str, Floats] = {}
        for at in range(0, len(examples), 64):
            batch = examples[at : at + 64]
            try:
                vectors = self.encode_visual([source_of(example) for example in batch])
                found |= dict(zip((example.id for example in batch), vectors, strict=True))
                continue
            except MediaError:
                if not skip_bad:
                    raise
            for example in batch:
                try:
                    found[example.id] = self.encode_visual([source_of(example)])[0]
                except MediaError as error:
                    if on_skip is not None:
                        on_skip(example.id, error)
        return found

    def _frames(self, given: Sequence[Source]) -> Iterator[tuple[list[int], Any]]:
        """Rows and frames [n, F, size, size, 3]: images together, each video by itself."""
        film: list[Any] = []
        row = -1
        decoded = decode_parallel(
            given, self._preprocess, sampling=self._sampling, batch_size=IMAGES_AT_ONCE
        )
        for batch in decoded:
            for rows, pixels in _by_source(batch, given):
                if film and rows != [row]:
                    yield [row], np.concatenate(film)[None]
                    film = []
                if is_video(given[rows[0]]):
                    film.append(pixels)
                    row = rows[0]
                else:
                    yield rows, pixels[:, None]
        if film:
            yield [row], np.concatenate(film)[None]


def _by_source(batch: Decoded, given: Sequence[Source]) -> Iterator[tuple[list[int], Any]]:
    """Split a batch, which is of images or of videos: all images at once, or video by video."""
    if batch.rows and not is_video(given[batch.rows[0]]):
        yield batch.rows, batch.pixels
        return
    for row in dict.fromkeys(batch.rows):
        yield [row], batch.pixels[np.array(batch.rows) == row]


def load_export(folder: StrPath, *, text: bool = True, threads: int = 0) -> ExportedModel:
    """Open an exported model; its contract is checked.

    Args:
        folder: that ``cl2cm export`` wrote.
        text: whether texts will be encoded; without them less is read.
        threads: processor threads of a graph; 0: as many as there are processors.

    Raises:
        ExportError: it is not an export, damaged, or its contract does not hold here.
    """
    folder = Path(folder)
    contract = read_contract(folder)
    names = check_side(folder, contract, "vision")
    if text:
        names += (*check_side(folder, contract, "text"), "tokenizer.json")
    check_sizes(folder, contract, names)
    model = ExportedModel(folder, contract, threads=threads)
    opening: list[Callable[[], Any]] = [
        partial(check_hash, folder, contract, name) for name in names
    ]
    if text:
        opening += [lambda: model.reader.tokenizer, lambda: model.reader.session("text.onnx")]
    with ThreadPoolExecutor(4) as pool:
        errors = [
            error for one in [pool.submit(task) for task in opening] if (error := one.exception())
        ]
    if errors:  # hashes first: they say best what is wrong
        raise errors[0]
    if text:
        _check_examples(model)
    return model


def _check_examples(model: ExportedModel) -> None:
    """Compare ids and vectors of the contract's texts with those that come out here."""
    examples = model.contract["examples"]
    for example in examples:
        ids = model.reader.ids(example["text"])
        if ids != example["ids"]:
            raise ExportError(
                f"{model.run}: tokens of {example['text']!r}",
                expected=f"{example['ids']}",
                found=f"{ids}",
                remedy="restore tokenizer.json and contract.json, or export the run again",
            )
    vectors = model.encode_text([example["text"] for example in examples])
    wanted = np.asarray([example["vector"] for example in examples], np.float32)
    worst = float(np.abs(vectors - wanted).max())
    most = TOLERANCE.get(str(model.contract["text"].get("precision")), 1e-3)
    if not worst <= most:
        raise ExportError(
            f"{model.run}: vectors of the contract's texts",
            expected=f"the vectors of the export, to {most:g}",
            found=f"a difference of {worst:.2g}",
            remedy=_AGAIN,
        )


def _name(source: Source) -> str:
    if isinstance(source, Example):
        return source.id
    return str(source) if isinstance(source, Path) else "in memory"
