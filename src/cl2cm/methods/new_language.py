"""Add a language to a finished run: its settings, with what the new language changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl2cm.errors import CheckpointError, ConfigError, LanguageError, nearest
from cl2cm.methods.add_language import AddLanguage
from cl2cm.methods.settings import checked
from cl2cm.model.config import Config, override, parse_config, with_absolute_paths
from cl2cm.model.encoders import AS_TRAINED, Encoders
from cl2cm.model.run_folder import languages_of, read_run
from cl2cm.progress import say
from cl2cm.types import Example, is_model_spec

EPOCHS = 10


@dataclass(frozen=True, slots=True)
class NewLanguage:
    """What is added to which run.

    Attributes:
        run: the finished run.
        language: to add.
        manifest: with machine translations into it; those into the run's languages are replayed.
        text_only: learn from texts alone.
        settings: changes, as ``train --set`` takes them.
        encoders: where the run's encoders or features are by now.
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
        CheckpointError: the run is an off-the-shelf model, unfinished or damaged.
        LanguageError: the run has the language already, or the manifest no translations into it.
    """
    if is_model_spec(new.run):
        raise CheckpointError(
            str(new.run),
            expected="the folder of a finished run",
            found="an off-the-shelf model",
            remedy="train a run on it first: cl2cm train",
        )
    before, _ = read_run(new.run, new.encoders)
    learned = languages_of(new.run)
    if new.language in learned:
        raise LanguageError(
            f"--language {new.language}",
            expected="a language that the run has not learned",
            found=f"a run with {', '.join(learned)}",
            remedy="choose another language, or train with more data: cl2cm train --init-from",
        )
    train_items = [example for example in examples if example.split == "train"]
    languages = _languages(new, learned, train_items)
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
    tree["train"] |= {"epochs": EPOCHS, "patience": 0}
    tree["add_language"] = {"language": new.language, "text_only": new.text_only}
    for setting in new.settings:
        override(tree, setting)
    config = checked(with_absolute_paths(parse_config(tree)))
    if config.method != AddLanguage.name:
        raise ConfigError(
            "--set method",
            expected=AddLanguage.name,
            found=config.method,
            remedy="use cl2cm train --init-from for other methods",
        )
    return config


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
