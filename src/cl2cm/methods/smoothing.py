"""A control for soft labels: Eq. 8 with label smoothing."""

from cl2cm.errors import ConfigError
from cl2cm.methods.base import Method, Setup


class Smoothing(Method):
    """``translate-train`` with label smoothing (``match.smoothing``), which must be above 0."""

    name = "smoothing"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        match = setup.match
        if match.smoothing == 0 or match.loss != "infonce":
            raise ConfigError(
                "match.smoothing",
                expected="more than 0, and match.loss = 'infonce', for the method 'smoothing'",
                found=f"{match.smoothing} and {match.loss!r}",
                remedy="set match.smoothing=0.1, or train the method 'translate-train'",
            )
