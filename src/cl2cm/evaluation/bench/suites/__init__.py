"""Benchmark suites: which data, regimes, methods and settings ``cl2cm bench`` compares.

A suite is a TOML file in this folder. ``base`` holds settings for all runs; ``regimes.NAME`` and
``methods.NAME`` change them, and ``tuned.REGIME.METHOD`` holds what was chosen for a method in a
regime on the validation split. ``quick`` changes all of them for a short run.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from cl2cm.errors import ConfigError, ManifestError, nearest
from cl2cm.evaluation.bench.suites.own import own_suite_fields
from cl2cm.methods.settings import checked
from cl2cm.model.config import Config, override, parse_config

Tree = Mapping[str, Any]
ABLATED = "cl2cm"


# Runs of a benchmark are many at a time.
ONE_CORE: Tree = {"train": {"device": "cpu", "threads": 1}}


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite as its file says it.

    Attributes:
        name: of the suite.
        languages: target languages.
        regimes: name -> settings.
        methods: name -> settings.
        default_regimes: what runs when nothing is chosen.
        ablations: name -> settings, each a change of ``cl2cm``.
        single: methods that are also trained on one language at a time.
        seeds: number of seeds.
        base: settings of all runs.
        tuned: regime -> method -> settings.
        quick: settings of a short run.
        manifest: of the data, where the file names one.
    """

    name: str
    languages: tuple[str, ...]
    regimes: Mapping[str, Tree]
    methods: Mapping[str, Tree]
    ablations: Mapping[str, Tree]
    default_regimes: tuple[str, ...]
    single: tuple[str, ...]
    seeds: int
    base: Tree
    tuned: Mapping[str, Mapping[str, Tree]]
    quick: Tree
    manifest: Path | None = None

    def config(
        self,
        regime: str,
        method: str,
        *,
        manifest: Path,
        seed: int,
        languages: Sequence[str] = (),
        quick: bool = False,
        settings: Sequence[str] = (),
    ) -> Config:
        """Return settings of one run of a method, or of an ablation.

        Args:
            regime: of the suite.
            method: one of any name, or an ablation of the suite.
            manifest: of the data.
            seed: of training.
            languages: target languages; empty: the suite's.
            quick: a short run.
            settings: ``key=value`` that come last.
        """
        change = self.ablations.get(method, {})
        method = self.method(method)
        trees = [
            ONE_CORE,
            self.base,
            self.regimes[regime],
            self.methods.get(method, {}),
            self.tuned.get(regime, {}).get(method, {}),
            change,
            self.quick if quick else {},
            {
                "method": method,
                "data": {
                    "manifest": str(manifest),
                    "languages": list(languages or self.languages),
                },
                "train": {"seed": seed},
            },
        ]
        merged: dict[str, Any] = {}
        for tree in trees:
            merged = _merge(merged, tree)
        for setting in settings:
            override(merged, setting)
        return checked(parse_config(merged))

    def method(self, name: str) -> str:
        """Return the method of a name that may be an ablation's."""
        return ABLATED if name in self.ablations else name


def is_file(name: str) -> bool:
    """Return whether a name means a file of the user's."""
    return name.endswith(".toml")


def suite_names() -> list[str]:
    """Return names of all suites."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """Read a suite: a shipped one by its name, or one of the user's from a file (``own.py``).

    Raises:
        ConfigError: there is none of that name, or the file is wrong.
    """
    if is_file(name):
        return Suite(**own_suite_fields(Path(name)))
    if name not in suite_names():
        raise ConfigError(
            "suite",
            expected=f"one of {', '.join(suite_names())}, or a file that ends in .toml",
            found=repr(name),
            remedy=nearest(name, suite_names(), listed=True),
        )
    text = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    tree = tomllib.loads(text)
    return Suite(
        name=name,
        languages=tuple(tree["languages"]),
        regimes=tree["regimes"],
        methods=tree["methods"],
        ablations=tree.get("ablations", {}),
        default_regimes=tuple(tree["default_regimes"]),
        single=tuple(tree["single"]),
        seeds=tree["seeds"],
        base=tree["base"],
        tuned=tree.get("tuned", {}),
        quick=tree["quick"],
    )


def find_manifest(suite: str, data: Path | None) -> Path:
    """Return the manifest of a suite in a data folder, itself or in a folder of the suite's name.

    Raises:
        ManifestError: no folder was named, or it is not there.
    """
    if data is None:
        raise ManifestError(
            f"data of {suite}",
            expected="its folder, by --data or the variable CL2CM_DATA",
            found="neither",
            remedy=f"run cl2cm bench {suite} --data FOLDER",
        )
    for folder in (data, data / suite):
        for name in ("manifest.jsonl.gz", "manifest.jsonl"):
            if (folder / name).is_file():
                return (folder / name).resolve()
    if data.is_file():
        return data.resolve()
    raise ManifestError(
        str(data),
        expected=f"manifest.jsonl.gz of {suite} in it",
        found="none" if data.is_dir() else "no such folder",
        remedy="name the folder that holds manifest.jsonl.gz and images",
    )


def _merge(below: Tree, above: Tree) -> dict[str, Any]:
    """Return both trees in one: tables are merged, other values are those of the upper one."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both and isinstance(old, Mapping) else value
    return merged
