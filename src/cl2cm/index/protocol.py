"""What a backend of the index does: the nearest of N vectors to Q queries."""

from typing import Protocol

from cl2cm.types import Floats, Ints


class VectorIndex(Protocol):
    """Vectors [N, D] that can be searched.

    A score is the dot product of two unit vectors, in [-1, 1]. **Higher is better**, for every
    backend: one that works with distances turns them round.
    """

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        ...

    def __len__(self) -> int:
        """Number N of vectors."""
        ...

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Give the best ``k`` rows for each query.

        Args:
            queries: unit vectors, float32 [Q, D].
            k: hits wanted, at least 1; beyond N there are N.

        Returns:
            Scores float32 [Q, K], falling along a row, and rows int64 [Q, K]; of equal scores
            the lower row comes first. K = min(k, N).

        Raises:
            VectorIndexError: queries of another width, or not finite; k below 1.
        """
        ...

    def vectors(self, rows: Ints) -> Floats:
        """Give the stored vectors of some rows, float32 [K, D]."""
        ...
