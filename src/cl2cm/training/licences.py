"""Licences of everything that a run was made from: weights, data, translations, an initial run.

The list is written into ``provenance.json`` at the end of a training. What nobody recorded is
listed as unknown; nothing is guessed and nothing is asked of a network.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.data.licences import COLUMNS, LICENCES, UNKNOWN
from cl2cm.data.manifest import read_manifest
from cl2cm.data.prepare import dataset_of
from cl2cm.encode.clip.catalogue import MODELS
from cl2cm.encode.pinned_weights import OFFLINE_MODELS, model_folder, read_model_record
from cl2cm.encode.store import read_meta
from cl2cm.encode.trust import is_bare
from cl2cm.errors import CL2CMError, ManifestError
from cl2cm.methods.registry import method_class
from cl2cm.model.config import Config
from cl2cm.model.run_folder import read_provenance
from cl2cm.storage import sha256_file
from cl2cm.translate.bergamot import MODELS as BUNDLED
from cl2cm.translate.bergamot import WHEEL, BergamotTranslator
from cl2cm.translate.model_files import model_licence
from cl2cm.translate.record import read_translation_record

_TRANSLATIONS = re.compile(r"translations \((.+)\)")


class Owed(NamedTuple):
    """One thing that a model was made from.

    Attributes:
        part: what it is to the model, such as ``text encoder`` or ``translations``.
        name: of the weights, data set or engine.
        version: of it; may be empty.
        licence: as its authors state it, or ``unknown``.
        source: where it comes from; may be empty.
    """

    part: str
    name: str
    version: str
    licence: str
    source: str

    @property
    def is_unknown(self) -> bool:
        """Whether a licence is missing."""
        return UNKNOWN in self.licence or "see its card" in self.licence


def recorded(config: Config, provenance: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the list as a finished training records it.

    Args:
        config: of the training.
        provenance: without this list.
    """
    manifest = Path(config.data.manifest)
    same = manifest.is_file() and sha256_file(manifest) == provenance["data"]["manifest_sha256"]
    found = owed_by(config, provenance, manifest if same else None, initial=True)
    return [item._asdict() for item in found]


def owed_by(
    config: Config, provenance: Mapping[str, Any], manifest: Path | None, *, initial: bool
) -> list[Owed]:
    """Return what a run was made from, each thing once.

    Args:
        config: of the run.
        provenance: of the run; ``data``, ``init_from`` and ``translates_queries`` are used.
        manifest: what it was trained on; None: data and translations are unknown. It is named by
            the user and not by the run, which may be somebody else's.
        initial: whether to read the run that the training started from.
    """
    data = provenance.get("data", {})
    hashes = data.get("encoders", {})
    found = [
        *weights(config.text.encoder, "text encoder", hashes.get("text", "")),
        *weights(config.vision.encoder, "vision encoder", hashes.get("vision", "")),
        *_of_data(config, data, manifest),
        *_of_queries(config, provenance),
        *_of_initial(provenance, read=initial),
    ]
    return _once(found)


def weights(spec: str, part: str, fingerprint: str = "") -> Iterator[Owed]:
    """Yield the weights that an encoder's spec names.

    Args:
        spec: such as ``hf:multilingual-e5-small``, ``hf:OWNER/NAME`` or ``features:PATH``.
        part: what they are to the model.
        fingerprint: of the encoder, which stands for a version where there is none.
    """
    kind, _, name = spec.partition(":")
    version = fingerprint[:12]
    if kind == "features":
        yield from _of_features(Path(name), part, version)
    elif is_bare(name) and name in OFFLINE_MODELS:
        pins = OFFLINE_MODELS[name].wheels
        record = read_model_record(model_folder(name)) or {}
        of_wheels = "; ".join(f"{pin.package}: {pin.licence or UNKNOWN}" for pin in pins)
        licence = record.get("licence", of_wheels)
        packages = f"PyPI: {', '.join(map(str, pins))}"
        about = record.get("source")
        source = f"{about}; {packages}" if about else packages
        yield Owed(part, name, version, licence, source)
    elif licence := _of_the_hub(name):
        yield Owed(part, name, version, licence, "Hugging Face hub")
    else:
        folder = Path(name).expanduser()
        record = read_model_record(folder) or {}
        licence = str(record.get("licence") or model_licence(folder))
        source = str(record.get("source", "a folder of yours" if folder.is_dir() else ""))
        yield Owed(part, name, version, licence, source)


def _of_the_hub(name: str) -> str:
    """Return the licence of a listed model, or of one side of a listed pair; empty if unknown."""
    specs = {model.spec.removeprefix("hf:"): model.licence for model in MODELS}
    sides = {side: licence for spec, licence in specs.items() for side in spec.split("+")}
    return specs.get(name) or sides.get(name, "")


def dataset(name: str) -> Iterator[Owed]:
    """Yield captions and media of a data set; unknown without a name."""
    known = LICENCES.get(name)
    terms = known or (UNKNOWN, UNKNOWN, "")
    for part, licence in (("captions", terms[0]), ("images and videos", terms[1])):
        yield Owed(part, name or UNKNOWN, "", licence, terms[2])


def translations(manifest: Path, languages: tuple[str, ...] = ()) -> Iterator[Owed]:
    """Yield the engines behind a manifest's translations into some languages, or into all.

    A column that came with a data set, and not from ``cl2cm translate``, has no record.
    """
    try:
        columns = read_translation_record(manifest)["columns"]
    except CL2CMError:
        columns = {}
    by_engine: dict[tuple[str, str, str], list[str]] = {}
    for language, name in _columns(manifest):
        if languages and language not in languages:
            continue
        made = columns.get(language, {}).get(name, {})
        key = (
            name,
            str(made.get("version", "")),
            str(made.get("licence") or COLUMNS.get(name, UNKNOWN)),
        )
        by_engine.setdefault(key, []).append(language)
    for (name, version, licence), codes in by_engine.items():
        yield Owed(_part_of(codes), name, version, licence, "")


def of_manifest(manifest: Path) -> list[Owed]:
    """Return the data set and the translation engines of a manifest."""
    return [*dataset(_dataset_name(manifest)), *translations(manifest)]


def _dataset_name(manifest: Path) -> str:
    """Return the data set of a manifest, or of the manifest that was translated."""
    try:
        record = read_translation_record(manifest)
    except CL2CMError:
        record = {}
    return str(record.get("dataset", "")) or dataset_of(manifest)


def _columns(manifest: Path) -> list[tuple[str, str]]:
    """Return language and name of each column of translations, sorted."""
    found: set[tuple[str, str]] = set()
    for example in read_manifest(manifest, source=None, skip_bad=True):
        for language, by_name in example.translations.items():
            found.update((language, name) for name in by_name)
    return sorted(found)


def _of_data(config: Config, data: Mapping[str, Any], manifest: Path | None) -> Iterator[Owed]:
    if manifest is None:
        yield from dataset("")
        yield Owed("translations", UNKNOWN, "", UNKNOWN, "")
        return
    if not manifest.is_file() or sha256_file(manifest) != data.get("manifest_sha256"):
        raise ManifestError(
            str(manifest),
            expected="the manifest that the run was trained on",
            found="another or edited one" if manifest.is_file() else "no such file",
            remedy="pass the original manifest",
        )
    yield from dataset(_dataset_name(manifest))
    try:
        learns = method_class(config.method).targets == "translations"
    except CL2CMError:  # of a package that is not installed here
        learns = True
    if learns:
        for owed in translations(manifest, tuple(data.get("languages", ()))):
            if not config.data.engines or owed.name in config.data.engines:
                yield owed


def _of_features(path: Path, part: str, version: str) -> Iterator[Owed]:
    try:
        encoder = str(read_meta(path)["encoder"])
    except (CL2CMError, OSError, ValueError, KeyError, TypeError):
        yield Owed(part, f"features:{path.name}", version, UNKNOWN, "features computed elsewhere")
        return
    yield from weights(encoder, part, version)


def _of_queries(config: Config, provenance: Mapping[str, Any]) -> Iterator[Owed]:
    languages = provenance.get("data", {}).get("languages", ())
    pairs = [f"{code} to {config.data.source}" for code in languages]
    bundled = {" to ".join(pair) for pair in BUNDLED}
    if provenance.get("translates_queries") and bundled.intersection(pairs):
        yield Owed("query translation", "bergamot", WHEEL, BergamotTranslator.licence, "PyPI")


def _of_initial(provenance: Mapping[str, Any], *, read: bool) -> Iterator[Owed]:
    """Yield what the run that a training started from was made from."""
    initial = provenance.get("init_from")
    if not initial:
        return
    run = Path(str(initial.get("run", "")))
    try:
        before = read_provenance(run) if read else {}
    except (CL2CMError, OSError):
        before = {}
    known = before.get("licences") if before.get("model") == initial.get("model") else None
    if known is None:
        version = str(initial.get("model", ""))[:12]
        yield Owed("initial run", run.name, version, UNKNOWN, "")
    else:
        yield from read_back(known)


def read_back(recorded: Any) -> list[Owed]:  # noqa: ANN401 - JSON
    """Return a recorded list; what does not fit is left out."""
    rows = recorded if isinstance(recorded, list) else []
    return _once(
        Owed(**{key: str(row.get(key) or "") for key in Owed._fields})._replace(
            licence=str(row.get("licence") or UNKNOWN)
        )
        for row in rows
        if isinstance(row, dict)
    )


def _part_of(languages: Iterable[str]) -> str:
    return f"translations ({', '.join(languages)})"


def _once(found: Iterable[Owed]) -> list[Owed]:
    """Return each thing once; translations by one engine are one thing, whatever the languages.

    A run and the one that it started from often name the same engine with different languages.
    """
    rows: dict[Owed, set[str]] = {}
    for item in found:
        match = _TRANSLATIONS.fullmatch(item.part)
        key = item._replace(part="") if match else item
        rows.setdefault(key, set()).update(match[1].split(", ") if match else ())
    return [
        item._replace(part=_part_of(sorted(codes))) if codes else item
        for item, codes in rows.items()
    ]
