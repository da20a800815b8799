"""What the arguments of ``cl2cm report`` name: runs, and benchmarks with their runs.

A run may come from anyone. The manifest that it names is opened without the user's word only where
its content is the one that the run was trained on, by the hash in ``provenance.json``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl2cm.errors import CL2CMError, ConfigError, ManifestError
from cl2cm.evaluation.bench.report import figures_of
from cl2cm.evaluation.ranks import Ranks
from cl2cm.evaluation.report.results import RECALLS, read_results, read_run_ranks
from cl2cm.export.contract import is_export
from cl2cm.model.config import Config, parse_config, read_tree
from cl2cm.model.encoders import Encoders
from cl2cm.model.run_folder import read_provenance, read_run
from cl2cm.storage import has_hash
from cl2cm.types import is_model_spec

Row = dict[str, Any]  # as in ``rows`` of bench --json
_SAME = 1e-6  # recalls in percent that are equal


@dataclass(slots=True)
class Run:
    """One run.

    Attributes:
        label: of the line that it stands for; runs of several seeds have one.
        spec: its folder, or the name of an off-the-shelf model.
        seed: of a benchmark; None for a run that was named itself.
        config: its settings; None for an export and an off-the-shelf model.
        provenance: what it says of its making; empty likewise.
        ranks: per language; None where they are to be measured.
        rows: its figures, one row a language; empty likewise.
    """

    label: str
    spec: str
    seed: int | None = None
    config: Config | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    ranks: Mapping[str, Ranks] | None = None
    rows: list[Row] = field(default_factory=list)

    @property
    def folder(self) -> Path | None:
        """Its folder, where it is a run."""
        return None if self.config is None else Path(self.spec)

    @property
    def data(self) -> Mapping[str, Any]:
        """What its provenance says of its data; empty where that is nothing of the kind."""
        found = self.provenance.get("data")
        return found if isinstance(found, dict) else {}

    @property
    def has_teacher(self) -> bool:
        """Whether it has a cross-lingual network."""
        return self.folder is not None and (self.folder / "teacher.safetensors").is_file()


@dataclass(slots=True)
class Subjects:
    """Everything that a report is about.

    Attributes:
        runs: in the order in which they were named.
        mrv: label → mean rank variance that a benchmark has reported.
        missing: what a benchmark did not hold, in sentences.
    """

    runs: list[Run] = field(default_factory=list)
    mrv: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """The lines of the tables."""
        return list(dict.fromkeys(run.label for run in self.runs))

    def of(self, label: str) -> list[Run]:
        """Return the runs of a line, one a seed."""
        return [run for run in self.runs if run.label == label]


def read_subjects(named: Sequence[str], split: str) -> Subjects:
    """Read what the user named.

    Args:
        named: runs, exports, off-the-shelf models, folders of a benchmark, results of one.
        split: whose ranks of a benchmark are read.

    Raises:
        CheckpointError: a run is damaged or unfinished.
        ConfigError: a file is not the results of a benchmark, or one is named twice.
    """
    again = [name for place, name in enumerate(named) if name in named[:place]]
    if again:
        raise ConfigError(
            again[0], expected="each run once", found="it twice", remedy="remove one of them"
        )
    subjects = Subjects()
    for name in named:
        path = Path(name)
        if is_model_spec(name) or is_export(name):
            subjects.runs.append(Run(name, name))
        elif path.suffix == ".json" and path.is_file():
            _add_bench(subjects, path, None, split)
        elif (path / "results.json").is_file():
            _add_bench(subjects, path / "results.json", path, split)
        else:
            config = _settings(path)
            subjects.runs.append(
                Run(config.method, name, config=config, provenance=read_provenance(path))
            )
    _name_apart(subjects)
    return subjects


def _settings(run: Path) -> Config:
    """Return the settings of a finished run, with its encoders by the names that stand there."""
    read_run(run, Encoders("hf:unused", "onnx:unused"))  # which checks it, and opens no encoder
    return parse_config(read_tree(run / "config.toml"))


def _name_apart(subjects: Subjects) -> None:
    """Label runs that were named themselves by their method and, where it is not alone, folder."""
    taken = {run.label for run in subjects.runs if run.seed is not None}
    named = [run for run in subjects.runs if run.seed is None]
    methods = [run.label for run in named]
    for run in named:
        if run.config is not None and (methods.count(run.label) > 1 or run.label in taken):
            run.label = f"{run.label} ({run.spec})"


def _add_bench(subjects: Subjects, file: Path, root: Path | None, split: str) -> None:
    result = read_results(file)
    rows = [row for row in result["rows"] if row["table"] == "all"]
    if len(rows) < len(result["rows"]):
        subjects.missing.append(
            f"Models trained on one language alone are left out; they stand in {file.name}."
        )
    regimes = list(dict.fromkeys(row["regime"] for row in rows))

    def label(row: Mapping[str, Any]) -> str:
        own = row["method"] if len(regimes) == 1 else f"{row['regime']}: {row['method']}"
        taken = own in before
        return f"{own} ({result['suite']})" if taken else str(own)

    before = set(subjects.labels)
    runs: dict[tuple[str, str, int], Run] = {}
    for row in rows:
        key = row["regime"], row["method"], row["seed"]
        if key not in runs:
            runs[key] = Run(label(row), _folder(root, key), seed=row["seed"])
        runs[key].rows.append(row)
    without = 0
    for run in runs.values():
        if root is not None:
            _open_run(run, root, split)
        without += run.ranks is None
    if without:
        subjects.missing.append(
            f"{without} of {len(runs)} runs of {result['suite']} have no ranks here that belong to "
            f"{file.name} (split {split}), so their recalls have no interval."
        )
    subjects.runs += runs.values()
    subjects.mrv |= {label(row): row["MRV"] for row in result["mrv"]}


def _folder(root: Path | None, key: tuple[str, str, int]) -> str:
    return "" if root is None else str(root / key[0] / "all" / key[1] / str(key[2]))


def _open_run(run: Run, root: Path, split: str) -> None:
    """Add settings and ranks of a run of a benchmark, where they are there and belong to it."""
    folder = Path(run.spec)
    if not folder.resolve().is_relative_to(root.resolve()):
        return
    try:
        run.config = _settings(folder)
        run.provenance = read_provenance(folder)
    except CL2CMError:
        run.config = None
    ranks = read_run_ranks(root, folder, split)
    if ranks is not None and all(_agree(row, ranks.get(row["language"])) for row in run.rows):
        run.ranks = ranks


def _agree(row: Row, ranks: Ranks | None) -> bool:
    if ranks is None:
        return False
    found = figures_of(ranks)
    return all(abs(row[key] - found[key]) < _SAME for key in RECALLS)


def find_manifest(subjects: Subjects, named: Path | None) -> Path | None:
    """Return the manifest to read: the user's, or the one that a run was trained on.

    Returns:
        None for results of a benchmark without its runs or its manifest.

    Raises:
        ManifestError: a run is to be measured, and its manifest is not here.
    """
    if named is not None:
        return named
    for run in subjects.runs:
        if run.config is None:
            continue
        path = Path(run.config.data.manifest)
        known = run.data.get("manifest_sha256")
        if isinstance(known, str) and _is_trained_on(path, known):
            return path
    if all(run.rows for run in subjects.runs):
        return None
    raise ManifestError(
        subjects.runs[0].spec,
        expected="the manifest that it was trained on, where it was then",
        found="none, or another content",
        remedy="name one with --manifest",
    )


def _is_trained_on(path: Path, known: str) -> bool:
    try:
        return (
            path.is_file() and path.name.endswith((".jsonl", ".jsonl.gz")) and has_hash(path, known)
        )
    except OSError:
        return False
