"""Noise that the settings plant in the training translations: what is changed is recorded."""

from collections.abc import Sequence
from typing import Any

from cl2cm.data.noise import plant_noise
from cl2cm.methods.registry import method_class
from cl2cm.model.config import Config
from cl2cm.types import Example


def spoilt(config: Config, examples: Sequence[Example]) -> tuple[list[Example], dict[str, Any]]:
    """Return what a run learns from: with noise, where its method looks at translations."""
    if method_class(config.method).targets != "translations":
        return list(examples), {}
    return planted(config, examples)


def noise_seed(config: Config) -> int:
    """Return the seed of the noise; a negative ``data.noise_seed`` stands for ``train.seed``."""
    return config.train.seed if config.data.noise_seed < 0 else config.data.noise_seed


def planted(config: Config, examples: Sequence[Example]) -> tuple[list[Example], dict[str, Any]]:
    """Return the examples with the noise of the settings, and its record; an empty one for none."""
    data, seed = config.data, noise_seed(config)
    if data.noise == 0:
        return list(examples), {}
    spoilt, changed = plant_noise(
        examples,
        share=data.noise,
        kind=data.noise_kind,
        seed=seed,
        source=data.source,
    )
    record = {
        "share": data.noise,
        "kind": data.noise_kind,
        "seed": seed,
        "changed": {column: list(units) for column, units in changed.items()},
    }
    return spoilt, {"noise": record}
