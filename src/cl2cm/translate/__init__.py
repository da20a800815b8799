"""Machine translation: of a manifest's captions, and of queries for ``translate-test``.

One file for each engine, behind one protocol. Importing this loads none of them; `open_translator`
and `find_translator` do, and say what to install if the engine of a direction is not there.
"""

import difflib
from collections.abc import Callable, Iterable

from cl2cm.errors import ConfigError
from cl2cm.translate import apertium, bergamot, ctranslate2, file, hf
from cl2cm.translate.protocol import Translator

__all__ = ["ENGINES", "Translator", "find_translator", "find_translators", "open_translator"]

Opener = Callable[[str, str, str], Translator]

ENGINES: dict[str, tuple[Opener, str]] = {
    "apertium": (apertium.open_translator, "apertium, or a chain such as apertium:en-ca-fr"),
    "bergamot": (bergamot.open_translator, "bergamot"),
    "ct2": (ctranslate2.open_translator, "ct2:FOLDER"),
    "hf": (hf.open_translator, "hf:FOLDER or hf:OWNER/NAME"),
    "file": (file.open_translator, "file:TABLE.tsv"),
}


def open_translator(spec: str, source: str, target: str) -> Translator:
    """The engine that a spec names, for a direction.

    Args:
        spec: a name of ``ENGINES``, with what follows its colon.
        source: language to read, as a manifest calls it.
        target: language to write.

    Raises:
        ConfigError: there is no such engine, or its program or folder is not there.
        LanguageError: it does not have the direction.
        MissingExtraError: its extra is not installed.
    """
    kind, _, argument = spec.partition(":")
    if kind not in ENGINES:
        near = difflib.get_close_matches(kind, ENGINES, 1)
        raise ConfigError(
            "--engine",
            expected=f"one of {'; '.join(form for _, form in ENGINES.values())}",
            found=repr(spec),
            remedy=f"did you mean {near[0]!r}?" if near else "choose one of them",
        )
    open_engine, _ = ENGINES[kind]
    return open_engine(argument, source, target)


def find_translator(source: str, target: str) -> Translator | None:
    """The engine from one language into another; None where there is none for the direction.

    Raises:
        MissingExtraError: there is one, but the extra ``translate`` is not installed.
    """
    if (source, target) in bergamot.MODELS:
        return bergamot.BergamotTranslator(source, target)
    return None


def find_translators(sources: Iterable[str], target: str) -> dict[str, Translator]:
    """Engines into one language, of those source languages that have one.

    Raises:
        MissingExtraError: the extra ``translate`` is not installed, and one needs it.
    """
    found = {source: find_translator(source, target) for source in sources}
    return {source: engine for source, engine in found.items() if engine is not None}
