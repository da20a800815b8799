"""Add a language to a finished run or an off-the-shelf model: the settings of the new run."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl2cm.encode.clip.pairs import absolute_pair, parse_pair
from cl2cm.errors import ConfigError, LanguageError, nearest
from cl2cm.methods.add_language import AddLanguage
from cl2cm.methods.settings import checked
from cl2cm.methods.text_side import NewTextSide
from cl2cm.model.config import Config, override, parse_config, with_absolute_paths
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.model.off_the_shelf import load_pair_visual
from cl2cm.model.run_folder import languages_of, read_run
from cl2cm.model.settings import DataConfig, NetworkConfig, TextConfig
from cl2cm.progress import say
from cl2cm.types import Example, is_model_spec

EPOCHS = 10


@dataclass(frozen=True, slots=True)
class NewLanguage:
    """What is added to which run.

    Attributes:
        run: the finished run, or an off-the-shelf model.
        language: to add.
        manifest: with machine translations into it; those into the run's languages are replayed.
        text_only: learn from texts alone.
        settings: changes, as ``train --set`` takes them.
        encoders: where the run's encoders or features are by now; for an off-the-shelf model, the
            text encoder of the new run.
    """

    run: Path
    language: str
    manifest: Path
    text_only: bool = False
    settings: tuple[str, ...] = ()
    encoders: Encoders = AS_TRAINED


def language_config(new: NewLanguage, examples: Sequence[Example]) -> Config:
    """Return the settings of the run, changed for the new language.

    Raises:
        CheckpointError: the run is unfinished or damaged.
        EncoderError, WeightsError: the off-the-shelf model cannot be loaded.
        LanguageError: the run has the language already, or the manifest no translations into it.
    """
    learned = known_languages(new.run)
    if new.language in learned:
        raise LanguageError(
            f"--language {new.language}",
            expected="a language that the run has not learned",
            found=f"a run with {', '.join(learned)}",
            remedy="choose another language, or train with more data: cl2cm train --init-from",
        )
    train_items = [example for example in examples if example.split == "train"]
    languages = _languages(new, learned, train_items)
    if is_model_spec(new.run):
        tree = _of_model(new, languages)
    else:
        tree = _of_run(new, languages, train_items)
    method = tree["method"]
    for setting in new.settings:
        override(tree, setting)
    config = checked(with_absolute_paths(parse_config(tree)))
    if config.method != method:
        raise ConfigError(
            "--set method",
            expected=method,
            found=config.method,
            remedy="use cl2cm train --init-from for other methods",
        )
    return config


def known_languages(run: Path) -> tuple[str, ...]:
    """Return the languages that a run has learned, its source first; English of other models."""
    return (DataConfig().source,) if is_model_spec(run) else languages_of(run)


def _of_run(
    new: NewLanguage, languages: list[str], train_items: Sequence[Example]
) -> dict[str, Any]:
    """The settings of the run, changed for one adapter more."""
    before, _ = read_run(new.run, new.encoders)
    tree: dict[str, Any] = {name: dict(table) for name, table in before.tables().items()}
    tree = {"method": AddLanguage.name} | {
        k: v for k, v in tree.items() if k not in before.sections
    }
    tree["data"] |= {
        "manifest": str(new.manifest),
        "languages": languages,
        "engines": _engines(before.data.engines, new.language, train_items),
        "min_quality": 0.0,
        "quality_weighting": 0.0,
    }
    tree["train"] |= {"epochs": EPOCHS, "patience": 0, "warm_start": False}
    tree["network"] |= {"adapters": [*before.network.adapters, new.language]}
    tree["add_language"] = {"language": new.language, "text_only": new.text_only}
    return tree


def _of_model(new: NewLanguage, languages: list[str]) -> dict[str, Any]:
    """The settings of a run with the model's image side and a text side of its own."""
    pair = absolute_pair(parse_pair(str(new.run)))
    dim = load_pair_visual(pair.spec).dim
    return {
        "method": NewTextSide.name,
        "data": {"manifest": str(new.manifest), "languages": languages},
        "text": {"encoder": new.encoders.text or TextConfig().encoder},
        "vision": {"encoder": f"hf:{pair.image}"},
        "network": {
            "dim": dim,
            "layers": 0,
            "heads": math.gcd(dim, NetworkConfig().heads),
            "whitening": 0.1,
            "vision_head": False,
        },
        "train": {"epochs": EPOCHS},
        "text_side": {"text_only": new.text_only},
    }


def _languages(new: NewLanguage, learned: Sequence[str], items: Iterable[Example]) -> list[str]:
    """Return the new language, and those of the run that can be replayed; the others are said."""
    there = {code for example in items for code in example.translations}
    if new.language not in there:
        raise LanguageError(
            f"--language {new.language}",
            expected="translations into it in the split 'train'",
            found=f"translations into {', '.join(sorted(there)) or 'no language'}",
            remedy=nearest(new.language, there)
            if there
            else f"translate the manifest first: cl2cm translate --to {new.language}",
        )
    targets = learned[1:]
    missing = [code for code in targets if code not in there]
    if missing:
        say(
            f"warning: no translations into {', '.join(missing)} in {new.manifest}: these "
            "languages are measured but not replayed"
        )
    return [new.language, *(code for code in targets if code in there)]


def _engines(chosen: Sequence[str], language: str, items: Sequence[Example]) -> list[str]:
    """Return the run's engines that the manifest has, and all of the new language; empty: all."""
    there = {e for example in items for engines in example.translations.values() for e in engines}
    own = {e for example in items for e in example.translations.get(language, {})}
    return sorted((set(chosen) & there) | own) if chosen else []
