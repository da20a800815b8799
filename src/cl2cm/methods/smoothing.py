"""A control: is it only softer labels that help? Eq. 8 with label smoothing, and nothing else."""

from cl2cm.errors import ConfigError
from cl2cm.methods.base import Method
from cl2cm.model.config import Config
from cl2cm.model.networks import CrossLingualNetwork, CrossModalNetwork


class Smoothing(Method):
    """``translate-train`` with label smoothing (``match.smoothing``), which must be above 0."""

    name = "smoothing"

    def __init__(
        self, config: Config, student: CrossModalNetwork, teacher: CrossLingualNetwork | None
    ) -> None:
        super().__init__(config, student, teacher)
        if config.match.smoothing == 0 or config.match.loss != "infonce":
            raise ConfigError(
                "match.smoothing",
                expected="more than 0, and match.loss = 'infonce', for the method 'smoothing'",
                found=f"{config.match.smoothing} and {config.match.loss!r}",
                remedy="set match.smoothing=0.1, or train the method 'translate-train'",
            )
