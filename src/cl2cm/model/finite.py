"""Check that vectors are finite; the error names the item."""

from collections.abc import Sequence

import numpy as np

from cl2cm.errors import NumberError
from cl2cm.types import Floats


def check_vectors(vectors: Floats, names: Sequence[str], what: str) -> None:
    """Check that vectors [N, D] are finite.

    Args:
        vectors: of N items or texts.
        names: what each is called in an error.
        what: kind of thing that they are of, such as ``item``.

    Raises:
        NumberError: one of them is NaN or infinite.
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        others = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise NumberError(
            f"vector of {what} {names[bad[0]][:80]!r}{others}",
            expected="finite numbers",
            found="NaN or infinity",
            remedy="check its features and the weights of the model",
        )
