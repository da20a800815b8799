"""Verify every byte of a run, export, feature store, index, manifest, model or cache.

Other commands compare a file with its hash once per state of the file. This command reads
everything again and so also finds disk errors. With ``--repair`` it recreates what it can.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.data.manifest import read_manifest
from cl2cm.encode.pinned_weights import OFFLINE_MODELS, install_weights, read_model_record
from cl2cm.encode.pinned_weights import verify as verify_model
from cl2cm.encode.store import MEANS, STORE, FeatureStore, check_shard, read_meta
from cl2cm.errors import CL2CMError, ConfigError
from cl2cm.export.contract import check_hash as check_exported
from cl2cm.export.contract import check_side, check_sizes, is_export
from cl2cm.export.contract import read_contract as read_export
from cl2cm.index import Allowed, Index
from cl2cm.index.metadata import METADATA, check_files, check_hashes, read_metadata
from cl2cm.index.update.journal import JOURNAL, DamagedJournalError, Journal, discard
from cl2cm.model.run_folder import HASHED, check_hash, hashes_of, read_contract, read_provenance
from cl2cm.progress import say
from cl2cm.storage import CHECKSUM, read_record, sha256_file, write_record
from cl2cm.training.resume import check_state
from cl2cm.translate.cache import TranslationCache
from cl2cm.translate.record import read_translation_record, record_path


class Report:
    """What is found about a path.

    Attributes:
        path: the run, export, store, index, manifest, model or cache.
        kind: which of them it is.
        repair: whether what can be made again is made again.
        damaged: what is not as it was written, a line each.
        unhashed: files of earlier versions, which have no checksum.
        repaired: what was made again, or got a checksum.
    """

    def __init__(self, path: Path, kind: str, *, repair: bool) -> None:
        self.path, self.kind, self.repair = path, kind, repair
        self.damaged: list[str] = []
        self.unhashed: list[str] = []
        self.repaired: list[str] = []

    @contextlib.contextmanager
    def look(self) -> Iterator[None]:
        """Note an error of what is looked at, and continue."""
        try:
            yield
        except CL2CMError as error:
            self.damaged.append(str(error))

    def note(self, _: str, error: CL2CMError) -> None:
        """Note an error of a line or item."""
        self.damaged.append(str(error))

    def as_json(self) -> dict[str, Any]:
        """Return the object of ``doctor PATH --json``."""
        return {
            "path": str(self.path),
            "kind": self.kind,
            "damaged": self.damaged,
            "without_checksum": self.unhashed,
            "repaired": self.repaired,
        }


class _Kind(NamedTuple):
    """A kind of thing that can be verified: how it is recognised, and how it is looked at."""

    name: str
    fits: Callable[[Path], bool]
    look: Callable[[Path, Report], None]


def verify_path(path: Path, *, repair: bool = False) -> Report:
    """Read and compare everything at a path.

    Args:
        path: a run, export, feature store, index, manifest, model folder or translation cache.
        repair: make again what can be made again, and add checksums that are missing.

    Raises:
        ConfigError: nothing that cl2cm wrote.
    """
    kind = next((kind for kind in _KINDS if kind.fits(path)), None)
    if kind is None:
        names = ", ".join(kind.name for kind in _KINDS)
        raise ConfigError(
            str(path),
            expected=f"one of these: {names}",
            found="something else" if path.exists() else "nothing",
            remedy="correct the path",
        )
    report = Report(path, kind.name, repair=repair)
    kind.look(path, report)
    return report


def report_lines(report: Report) -> list[str]:
    """Return the report for people."""
    lines = [f"repaired: {line}" for line in report.repaired]
    lines += [f"damaged: {line}" for line in report.damaged]
    if report.unhashed:
        names = ", ".join(report.unhashed)
        lines.append(f"without a checksum, of an earlier version: {names}; add them with --repair")
    sound = "damaged" if report.damaged else "sound"
    return [*lines, f"{report.path}: {report.kind}, {sound}"]


# --- kinds ------------------------------------------------------------------------------------


def _look_at_run(run: Path, report: Report) -> None:
    if not (run / "provenance.json").exists():
        with report.look():
            check_state(run / "state")
        return
    with report.look():
        provenance = read_provenance(run)
        read_contract(run)
        unhashed = [name for name in HASHED if (run / name).exists() and "files" not in provenance]
        report.unhashed = [*unhashed, *_unsummed(run, "contract.json", "provenance.json")]
        for name in provenance.get("files", {}):
            with report.look():
                check_hash(run, name, again=True)
        if report.repair and report.unhashed and not report.damaged:
            say(f"{run}: assuming that its files are intact")
            write_record(run / "contract.json", read_record(run / "contract.json"))
            write_record(run / "provenance.json", {**provenance, "files": hashes_of(run)})
            report.repaired, report.unhashed = report.unhashed, []


def _unsummed(folder: Path, *names: str) -> list[str]:
    """Return the names of the records that have no checksum."""
    return [name for name in names if f'"{CHECKSUM}"' not in (folder / name).read_text("utf-8")]


def _look_at_store(folder: Path, report: Report) -> None:
    with report.look():
        meta = read_meta(folder)
        for number, shard in enumerate(meta["shards"]):
            with report.look():
                check_shard(folder, number, shard, again=True)
        if report.damaged:
            return
        store = FeatureStore.open(folder)
        report.unhashed = _unsummed(folder, STORE)
        if report.repair and report.unhashed:
            for number, shard in enumerate(meta["shards"]):
                shard.setdefault("ids_sha256", sha256_file(folder / f"{number:05}.ids.json"))
            write_record(folder / STORE, meta)
            report.repaired, report.unhashed = report.unhashed, []
        if report.repair and (folder / MEANS).exists():
            store.means()  # computes and writes them where they are damaged


def _look_at_index(folder: Path, report: Report) -> None:
    with report.look():
        metadata = read_metadata(folder)
        check_files(folder, metadata)
        check_hashes(folder, metadata, again=True)
        report.unhashed = _unsummed(folder, METADATA)
        index = Index.open(folder, Allowed.of(backends=(metadata["backend"],)))
        index.items(range(len(index)))
        index.close()
    if report.unhashed:
        say(f"{folder}: cl2cm index adds the checksum of {METADATA} when it runs again")
    if (folder / JOURNAL).exists():
        _look_at_journal(folder / JOURNAL, report)


def _look_at_journal(path: Path, report: Report) -> None:
    found = "a file that cannot be read"
    with contextlib.suppress(DamagedJournalError), contextlib.closing(Journal(path)) as journal:
        changed = journal.damaged()
        if not changed:
            return
        found = f"{changed:,} changed entries, which are not used"
        if report.repair:
            journal.drop_damaged()
            report.repaired.append(f"{path}: {found}; dropped")
            return
    if report.repair:
        discard(path)
        report.repaired.append(f"{path}: {found}; removed, the next cl2cm index encodes again")
    else:
        report.damaged.append(f"{path}: {found}; cl2cm index encodes again what is concerned")


def _look_at_manifest(path: Path, report: Report) -> None:
    path = path / "manifest.jsonl" if path.is_dir() else path
    with report.look():
        examples = read_manifest(path, source=None, skip_bad=True, on_skip=report.note)
        for example in examples:
            if example.path is not None and not example.path.is_file():
                report.damaged.append(f"{path}: {example.id!r}: no file {example.path}")
    with report.look():
        made = read_translation_record(path)
        _compare(path, made, record_path(path), report)
    prepared = path.with_name("prepared.json")
    if prepared.exists() and path.name == "manifest.jsonl":
        try:
            _compare(path, read_record(prepared), prepared, report)
        except (OSError, ValueError, RecursionError) as error:
            report.damaged.append(f"{prepared}: a damaged file ({error}); run cl2cm prepare again")


def _compare(path: Path, record: dict[str, Any], named: Path, report: Report) -> None:
    """Note a manifest that is not the one that its record was written with."""
    known = record.get("manifest_sha256")
    if known and sha256_file(path) != known:
        report.damaged.append(
            f"{path}: another content than {named.name} tells of: edited or damaged since; "
            "run cl2cm prepare or cl2cm translate again if you did not edit it"
        )


def _look_at_model(folder: Path, report: Report) -> None:
    name, cache = folder.name, folder.absolute().parents[1]
    record = read_model_record(folder)
    known = name in OFFLINE_MODELS and folder.absolute().parent.name == "models"
    try:
        if known or record is None:
            verify_model(name, cache, again=True)
        else:
            _check_record(folder, record)
    except CL2CMError as error:
        if not (report.repair and known):
            report.damaged.append(str(error))
            return
        install_weights([name], cache=cache, tell=say)
        report.repaired.append(str(error))


def _check_record(folder: Path, record: dict[str, Any]) -> None:
    for file, about in record["files"].items():
        if sha256_file(folder / file) != about["sha256"]:
            raise ConfigError(
                str(folder / file),
                expected=f"sha256 {about['sha256'][:12]}",
                found="a damaged file of another hash",
                remedy="restore it",
            )


def _look_at_translations(path: Path, report: Report) -> None:
    with report.look(), TranslationCache(path) as cache:
        if changed := cache.damaged():
            found = f"{path}: {changed:,} changed entries, which are not used"
            if report.repair:
                cache.drop_damaged()
                report.repaired.append(f"{found}; dropped")
            else:
                report.damaged.append(f"{found} and made again when they are asked for")


def _has(*names: str) -> Callable[[Path], bool]:
    return lambda path: any((path / name).exists() for name in names)


def _look_at_export(export: Path, report: Report) -> None:
    with report.look():
        contract = read_export(export)
        sides = [check_side(export, contract, side) for side in ("text", "vision")]
        for name in (*sides[0], *sides[1], "tokenizer.json"):
            with report.look():
                check_sizes(export, contract, (name,))
                check_exported(export, contract, name)


_KINDS = (
    _Kind("index", _has(METADATA, JOURNAL), _look_at_index),
    _Kind("feature store", _has(STORE, "plan.json"), _look_at_store),
    _Kind("model", _has("model.json"), _look_at_model),
    _Kind("export", is_export, _look_at_export),
    _Kind("run", _has("provenance.json", "config.toml", "state"), _look_at_run),
    _Kind(
        "manifest",
        lambda path: path.name.endswith((".jsonl", ".jsonl.gz")) or _has("manifest.jsonl")(path),
        _look_at_manifest,
    ),
    _Kind(
        "translation cache",
        lambda path: path.suffix == ".sqlite" and path.is_file(),
        _look_at_translations,
    ),
)
