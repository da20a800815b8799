"""Extract images and videos from a container into files with generated names."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cl2cm.data.readers.reading import Options
from cl2cm.storage import atomic_folder, cache_folder, sha256_text, storage_errors

FOLDER = "pictures"


class Unpacking:
    """Writes files into a temporary folder, which is moved into place at the end.

    Args:
        partial: where they are written.
        final: where they will be.
    """

    def __init__(self, partial: Path, final: Path) -> None:
        self._partial, self._final = partial, final
        self._hashes: dict[Path, str] = {}

    def write(self, identity: str, suffix: str, pieces: Iterable[bytes]) -> Path:
        """Write a file under a name that is derived from the id of its item.

        Returns:
            Where it will be.

        Raises:
            StorageError: the disk is full, read-only or closed to us.
        """
        name = Path(sha256_text(identity)[:20]).with_suffix(suffix)
        place = Path(name.name[:2], name)
        with storage_errors(self._final):
            (self._partial / place).parent.mkdir(exist_ok=True)
            digest = hashlib.sha256()
            with (self._partial / place).open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                    digest.update(piece)
        self._hashes[self._final / place] = digest.hexdigest()
        return self._final / place

    def hash(self, path: Path) -> str:
        """Return the SHA-256 of a file, given the value that `write` returned."""
        return self._hashes[path]

    def drop(self, path: Path) -> None:
        """Remove a file, given the value that `write` returned."""
        (self._partial / path.relative_to(self._final)).unlink()
        del self._hashes[path]


@contextmanager
def unpacking(source: Path, options: Options) -> Iterator[Unpacking | None]:
    """Provide a folder for the files of a container that appears as a whole or not at all.

    Args:
        source: the container.
        options: ``out`` is where its folder is made, else the cache; with ``no_images`` nothing is
            written, and None given.

    Raises:
        StorageError: the disk is full, read-only or closed to us.
    """
    if options.no_images:
        yield None
        return
    cached = cache_folder() / "unpacked" / sha256_text(str(source.resolve()))[:16]
    final = (options.out or cached).resolve() / FOLDER
    with atomic_folder(final) as partial:
        yield Unpacking(partial, final)
