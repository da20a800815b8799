"""Ranked lists and relevant items in the format of TREC, for trec_eval and other programs.

A caption is called LANGUAGE-NUMBER, counted from 0 in the order of the manifest, and an item by
its id. As a query an item is called LANGUAGE:ID, since each language has a gallery of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, Self

from cl2cm.errors import ConfigError
from cl2cm.evaluation.ranked_lists import DIRECTIONS, Direction, Measured, falling, rankings
from cl2cm.metrics import trec_name
from cl2cm.storage import atomic_file


class TrecFiles(NamedTuple):
    """Files of one direction: ranked lists, and the relevant items of each query."""

    run: Path
    qrels: Path


def trec_files(path: Path) -> dict[Direction, TrecFiles]:
    """Return the files of both directions, named after the one that the user names.

    ``runs/a.trec`` gives ``a.trec`` and ``a.qrels``, ``a.vision_to_text.trec`` and
    ``a.vision_to_text.qrels``.

    Raises:
        ConfigError: the name ends in ``.qrels``, as a file of relevant items does.
    """
    if path.suffix == ".qrels":
        raise ConfigError(
            "--trec",
            expected="a file for the ranked lists, such as run.trec",
            found=str(path),
            remedy="choose another suffix: the relevant items go to the file that ends in .qrels",
        )
    back = path.with_name(f"{path.stem}.vision_to_text{path.suffix}")
    return {
        "text_to_vision": TrecFiles(path, path.with_suffix(".qrels")),
        "vision_to_text": TrecFiles(back, back.with_name(f"{path.stem}.vision_to_text.qrels")),
    }


class TrecWriter:
    """Writes the files of an evaluation, one language after the other; they appear at the end.

    Args:
        path: of the ranked lists from text to vision; see `trec_files`.
        depth: items of each list; 0: all, which trec_eval needs for the same mAP.
    """

    def __init__(self, path: Path, *, depth: int = 0) -> None:
        self._paths = trec_files(path)
        self._depth = depth
        self._stack = ExitStack()
        self._files: dict[Direction, tuple[IO[bytes], IO[bytes]]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for direction, (run, qrels) in self._paths.items():
                files = [stack.enter_context(atomic_file(path)) for path in (run, qrels)]
                self._files[direction] = (files[0], files[1])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, measured: Measured) -> None:
        """Add a language."""
        for direction in DIRECTIONS:
            run, qrels = self._files[direction]
            for lines, relevant in trec_lines(measured, direction, depth=self._depth):
                run.write("".join(lines).encode())
                qrels.write("".join(relevant).encode())


def trec_lines(
    measured: Measured, direction: Direction, *, depth: int = 0
) -> Iterator[tuple[list[str], list[str]]]:
    """Return the lines of each query: of its ranked list, and of its relevant items.

    ``QUERY Q0 ITEM RANK SCORE cl2cm`` and ``QUERY 0 ITEM 1``. The scores fall strictly.
    """
    queries, gallery = trec_ids(measured, direction)
    for found in rankings(measured, direction):
        name = queries[found.query]
        scores = falling(found.scores)[: depth or None]
        yield (
            [
                f"{name} Q0 {gallery[item]} {rank} {score:.9g} cl2cm\n"
                for rank, (item, score) in enumerate(
                    zip(found.order.tolist(), scores.tolist(), strict=False), start=1
                )
            ],
            [f"{name} 0 {gallery[item]} 1\n" for item in found.relevant.tolist()],
        )


def trec_ids(measured: Measured, direction: Direction) -> tuple[list[str], list[str]]:
    """Return the names of all queries, and of all items of the gallery."""
    language, asked, *_ = measured
    captions = [f"{language}-{number}" for number in range(len(asked.texts))]
    items = _distinct([trec_name(example.id) for example in asked.gallery])
    if direction == "text_to_vision":
        return captions, items
    return [f"{language}:{item}" for item in items], captions


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, with a number after one that is there before."""
    taken, result = set(names), []
    seen: set[str] = set()
    for name in names:
        new, number = name, 2
        while new in seen or (new != name and new in taken):
            new, number = f"{name}~{number}", number + 1
        seen.add(new)
        result.append(new)
    return result
