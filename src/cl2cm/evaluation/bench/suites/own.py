"""A suite of your own: methods, languages and seeds on any manifest, from a TOML file.

It has the tables of the shipped suites, all of them optional except ``methods``, and ``manifest``:

    manifest = "photos.jsonl"       # beside the file; or name it with --data
    languages = ["de", "fr"]        # none: all that are translated for training and can be tested
    methods = ["translate-train", "smoothing", "cl2cm"]   # or a table: name -> settings
    seeds = 5

    [base]
    train = { epochs = 20, lr = 2e-3 }

    [ablations."cl2cm, no L_rel"]   # a row of its own: cl2cm with other settings
    transfer = { beta = 0.0 }
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cl2cm.errors import ConfigError, nearest
from cl2cm.model.config import anchor, read_tree

SEEDS = 3
REGIME = "default"  # of a file that names none
Tree = Mapping[str, Any]


def own_suite_fields(path: Path) -> dict[str, Any]:
    """Return the fields of a ``Suite`` from a file of the user's.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, or a value of another kind.
    """
    tree = read_tree(path)
    where = path.absolute().parent
    for key in tree:
        if key not in _KINDS:
            raise _wrong(path, key, f"keys among {', '.join(_KINDS)}", nearest(key, _KINDS))
    for key, value in tree.items():
        expected, fits = _KINDS[key]
        if not fits(value):
            raise _wrong(path, f"{key} = {value!r}", f"{key} as {expected}", "correct it")
    methods = tree.get("methods", [])
    if not methods:
        raise _wrong(
            path, "none", "methods to compare", 'add methods = ["translate-train", "cl2cm"]'
        )
    if isinstance(methods, list):
        methods = {name: {} for name in methods}
    regimes = tree.get("regimes") or {REGIME: {}}
    tuned = tree.get("tuned", {})
    for settings in (
        tree.get("base", {}),
        tree.get("quick", {}),
        *methods.values(),
        *regimes.values(),
        *tree.get("ablations", {}).values(),
        *(change for by_method in tuned.values() for change in by_method.values()),
    ):
        anchor(settings, where, beside_recipe=True)
    manifest = tree.get("manifest")
    return {
        "name": path.stem,
        "languages": tuple(tree.get("languages", ())),
        "regimes": regimes,
        "methods": methods,
        "ablations": tree.get("ablations", {}),
        "default_regimes": tuple(tree.get("default_regimes", regimes)),
        "single": tuple(tree.get("single", ())),
        "seeds": tree.get("seeds", SEEDS),
        "base": tree.get("base", {}),
        "tuned": tuned,
        "quick": tree.get("quick", {"train": {"epochs": 2}, "teacher": {"epochs": 1}}),
        "manifest": None if manifest is None else where / manifest,
    }


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _is_tables(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(part, dict) for part in value.values())


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "manifest": ("a path", lambda value: isinstance(value, str) and bool(value)),
    "languages": ('a list such as ["de", "fr"]', _is_words),
    "methods": ("a list of names, or tables", lambda v: _is_words(v) or _is_tables(v)),
    "regimes": ("tables", _is_tables),
    "default_regimes": ("a list of names", _is_words),
    "ablations": ("tables", _is_tables),
    "single": ("a list of methods", _is_words),
    "seeds": (
        "a number of 1 or more",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 1,
    ),
    "base": ("a table", _is_table),
    "tuned": (
        "tables of tables",
        lambda value: _is_tables(value) and all(_is_tables(part) for part in value.values()),
    ),
    "quick": ("a table", _is_table),
}


def _wrong(path: Path, found: str, expected: str, remedy: str) -> ConfigError:
    return ConfigError(str(path), expected=expected, found=found, remedy=remedy)
