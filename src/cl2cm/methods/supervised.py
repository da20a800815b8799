"""The upper bound: Eq. 8 on human captions in the target languages."""

from cl2cm.methods.base import Method


class Supervised(Method):
    """L_match = M(V, S) + M(V, T), where T is a caption that a person wrote for the image.

    It uses what all other methods must do without, so its figures are a bound, not a rival's.
    """

    name = "supervised"
    targets = "captions"
