"""A map of vectors in two dimensions: exact t-SNE (van der Maaten and Hinton, JMLR 9, 2008).

For a few hundred points, deterministic: it starts from the first two principal components.
"""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_TINY = 1e-12
_EARLY = 100  # steps with exaggerated attraction, so that clusters form
_EXAGGERATION = 12.0


def tsne(vectors: npt.ArrayLike, *, perplexity: float = 20.0, steps: int = 350) -> Matrix:
    """Return places [N, 2] where near vectors are near; distances between groups mean little.

    Args:
        vectors: [N, D], N at least 4.
        perplexity: about the number of neighbours of a point; less for fewer points.
        steps: of gradient descent.
    """
    x = np.asarray(vectors, dtype=np.float64)
    count = len(x)
    attraction = _affinities(_distances(x), min(perplexity, (count - 1) / 3))
    attraction = np.maximum((attraction + attraction.T) / (2 * count), _TINY)
    places = _principal(x)
    moved, gains = np.zeros_like(places), np.ones_like(places)
    rate = max(count / _EXAGGERATION / 4, 50.0)
    for step in range(steps):
        early = step < _EARLY
        near = 1 / (1 + _distances(places))
        np.fill_diagonal(near, 0)
        pull = attraction * (_EXAGGERATION if early else 1.0)
        force = (pull - np.maximum(near / near.sum(), _TINY)) * near
        gradient = 4 * (force.sum(1)[:, None] * places - force @ places)
        against = np.sign(gradient) != np.sign(moved)
        gains = np.maximum(np.where(against, gains + 0.2, gains * 0.8), 0.01)
        moved = (0.5 if early else 0.8) * moved - rate * gains * gradient
        places = places + moved
        places -= places.mean(0)
    return places


def _distances(x: Matrix) -> Matrix:
    squares = (x * x).sum(1)
    found: Matrix = np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0)
    return found


def _affinities(distances: Matrix, perplexity: float) -> Matrix:
    """Return rows that sum to 1, of the entropy log(perplexity), by bisection of the precision."""
    count = len(distances)
    low, high = np.zeros((count, 1)), np.full((count, 1), np.inf)
    precision = np.ones((count, 1))
    others = distances - np.where(np.eye(count) > 0, np.inf, distances).min(1, keepdims=True)
    shares = np.zeros_like(distances)
    for _ in range(60):
        shares = np.exp(-np.maximum(others, 0) * precision)
        np.fill_diagonal(shares, 0)
        shares /= shares.sum(1, keepdims=True)
        entropy = -(shares * np.log(np.maximum(shares, _TINY))).sum(1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + high) / 2)
    return shares


def _principal(x: Matrix) -> Matrix:
    centred = x - x.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places: Matrix = left[:, :2] * sizes[:2]
    signs = np.sign(places[np.abs(places).argmax(0), [0, 1]])  # the same on every machine
    return 1e-2 * places * signs / max(float(places[:, 0].std()), _TINY)
