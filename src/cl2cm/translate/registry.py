"""The registry of translation engines: built-in ones and plug-ins.

Each is a function of the spec's argument, the source and the target language. Importing this
loads none of them; opening one says what to install if it is not there.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

from cl2cm.plugins import Registry
from cl2cm.translate.protocol import Translator

ENGINES = {
    "apertium": "apertium:open_translator",
    "bergamot": "bergamot:open_translator",
    "ct2": "ctranslate2:open_translator",
    "hf": "hf:open_translator",
    "file": "file:open_translator",
}  # name -> module of this package, and function in it
_FORMS = {
    "apertium": "apertium, or a chain such as apertium:en-ca-fr",
    "ct2": "ct2:FOLDER",
    "hf": "hf:FOLDER or hf:OWNER/NAME",
    "file": "file:TABLE.tsv",
}

Opener = Callable[[str, str, str], Translator]


def open_translator(spec: str, source: str, target: str) -> Translator:
    """Return the engine that a spec names, for a direction.

    Args:
        spec: a name of ``ENGINES`` or of another package's entry point, with what follows its
            colon.
        source: language to read, as a manifest calls it.
        target: language to write.

    Raises:
        ConfigError: the engine is unknown, its program or folder is missing, or its package cannot
        be imported. LanguageError: it does not have the direction. MissingExtraError: its extra is
        not installed.
    """
    name, _, argument = spec.partition(":")
    opened = cast("Opener", REGISTRY.load(name))
    REGISTRY.warn_of_shadowed([name])
    with REGISTRY.guarded(name):
        engine = opened(argument, source, target)
        flaw = "" if name in ENGINES else _flaw_of_engine(engine, source, target)
    if flaw:
        raise REGISTRY.broken(name, f"an engine for {source} to {target}", flaw)
    return engine if name in ENGINES else _Guarded(name, engine)


def find_translator(source: str, target: str) -> Translator | None:
    """Return the bundled engine of a direction; None if there is none.

    Raises:
        MissingExtraError: there is one, but the extra ``translate`` is not installed.
    """
    from cl2cm.translate import bergamot  # noqa: PLC0415 - engines are loaded when asked for

    if (source, target) in bergamot.MODELS:
        return bergamot.BergamotTranslator(source, target)
    return None


def find_translators(sources: Iterable[str], target: str) -> dict[str, Translator]:
    """Return the bundled engines into one language, of the source languages that have one.

    Raises:
        MissingExtraError: the extra ``translate`` is not installed, and one needs it.
    """
    found = {source: find_translator(source, target) for source in sources}
    return {source: engine for source, engine in found.items() if engine is not None}


class _Guarded:
    """An engine of another package: what it raises and returns is held to the protocol."""

    def __init__(self, registered: str, engine: Translator) -> None:
        self.registered, self.engine = registered, engine
        self.name, self.version, self.licence = engine.name, engine.version, engine.licence
        self.source, self.target = engine.source, engine.target
        self.batch, self.own_threads = engine.batch, engine.own_threads

    def translate(self, texts: Sequence[str]) -> list[str]:
        with REGISTRY.guarded(self.registered):
            made = list(self.engine.translate(texts))
        if len(made) == len(texts) and all(isinstance(text, str) for text in made):
            return made
        found = f"{len(made)} results, such as {made[:1]!r:.60}"
        raise REGISTRY.broken(self.registered, f"{len(texts)} translations", found)


def _flaw(found: object, name: str) -> str:
    del name
    return "" if callable(found) else f"{found!r:.80}, no function of argument, source and target"


def _flaw_of_engine(engine: object, source: str, target: str) -> str:
    """Return what keeps an object from being an engine of a direction; empty if it is one."""
    for name in ("name", "version", "licence"):
        value = getattr(engine, name, None)
        if not (isinstance(value, str) and value.strip()):
            return f"the {name} {value!r:.80}, not a text"
    direction = (getattr(engine, "source", None), getattr(engine, "target", None))
    if direction != (source, target):
        return f"the direction {direction!r:.80}"
    batch = getattr(engine, "batch", None)
    if not (type(batch) is int and batch > 0):
        return f"the batch {batch!r:.80}, not a number above 0"
    if not isinstance(getattr(engine, "own_threads", None), bool):
        return "own_threads that is neither True nor False"
    return "" if callable(getattr(engine, "translate", None)) else "no method translate"


REGISTRY = Registry(
    "translation engine", "cl2cm.translators", "--engine", __package__, ENGINES, _flaw, _FORMS
)
