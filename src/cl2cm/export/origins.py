"""What a run was made from, for its card: backbones, data and translations, with their licences."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cl2cm.data.manifest import read_manifest
from cl2cm.encode.model_record import read_model_record
from cl2cm.encode.pinned_weights import OFFLINE_MODELS, pinned_folder
from cl2cm.errors import CL2CMError
from cl2cm.model.config import Config
from cl2cm.storage import sha256_file
from cl2cm.translate.record import read_translation_record

_LICENCES = ("LICENSE.txt", "LICENSE", "LICENCE.txt", "LICENCE")
_MOST = 2**16  # bytes of a licence that is copied


class Origins(NamedTuple):
    """What is known of the origins of a run.

    source: language of the captions; engines: a line for each engine, with licence and languages;
    backbones: a line for each; bases: their names on the hub; licence: of the data, as a text.
    """

    source: str = ""
    engines: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    licence: str = ""


def origins_of(config: Config, provenance: Mapping[str, Any]) -> Origins:
    """Return the origins of a run; what is at its place no longer is left out."""
    records = [_record(spec) for spec in (config.text.encoder, config.vision.encoder)]
    specs = (config.text.encoder, config.vision.encoder)
    backbones = [
        f"{side}: {record.get('source', spec)} ({record.get('licence', 'licence: see its source')})"
        for side, spec, record in zip(("text", "images"), specs, records, strict=True)
    ]
    sources = [str(record.get("source", "")).partition(",")[0] for record in records]
    manifest = Path(config.data.manifest)
    known = provenance.get("data", {}).get("manifest_sha256")
    made = Origins(
        config.data.source,
        backbones=tuple(backbones),
        bases=tuple(source for source in sources if source.count("/") == 1),
    )
    if not manifest.is_file() or sha256_file(manifest) != known:
        return made
    try:
        engines = _engines(manifest, config)
    except CL2CMError:  # the card says less; whoever trains hears of it
        return made
    return made._replace(engines=tuple(engines), licence=_licence(manifest.parent))


def _record(spec: str) -> Mapping[str, Any]:
    name = spec.partition(":")[2]
    if name not in OFFLINE_MODELS:
        return {}
    try:
        return read_model_record(pinned_folder(name)) or {}
    except CL2CMError:
        return {}


def _engines(manifest: Path, config: Config) -> Iterable[str]:
    columns = read_translation_record(manifest)["columns"]
    languages: dict[str, list[str]] = {}
    about: dict[str, str] = {}
    for language, column in _columns(manifest, config):
        languages.setdefault(column, []).append(language)
        told = columns.get(language, {}).get(column)
        if told is not None:
            about[column] = f"{told['engine']} {told['version']}, licence: {told['licence']}"
    for column, codes in sorted(languages.items()):
        yield f"{column} ({about.get(column, 'licence not recorded')}): {', '.join(sorted(codes))}"


def _columns(manifest: Path, config: Config) -> set[tuple[str, str]]:
    """Return the languages and columns of translations that a run may have learned from."""
    data = config.data
    return {
        (language, column)
        for example in read_manifest(manifest)
        if example.split == "train"
        for language, by_engine in example.translations.items()
        for column in by_engine
        if (not data.languages or language in data.languages)
        and (not data.engines or column in data.engines)
    }


def _licence(folder: Path) -> str:
    for name in _LICENCES:
        path = folder / name
        if path.is_file() and path.stat().st_size <= _MOST:
            return path.read_text(encoding="utf-8", errors="replace")
    return ""
