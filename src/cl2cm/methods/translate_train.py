"""The universal baseline: Eq. 8 on images, human captions and machine translations."""

from cl2cm.methods.base import Method


class TranslateTrain(Method):
    """L_match = M(V, S) + M(V, T) (Eq. 8)."""

    name = "translate-train"
