"""Apertium, rule-based translation with installed pairs and chains of them.

What is installed is a graph of languages; a direction is its shortest path, such as en-es-pt. A
call translates a whole batch in one run of the program, 0.1 s to start it included: 700 to 4,000
captions per second and step on one core. Each text is flushed separately, so that no rule spans two
texts, and preceded by the end of a sentence, without which French begins "Y a" instead of "Il y a".
"""

import functools
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cl2cm.errors import ConfigError, LanguageError, WeightsError
from cl2cm.storage import sha256_file, sha256_text
from cl2cm.text import one_line
from cl2cm.translate.languages import two_letters

INSTALL = "apt-get install apertium apertium-eng-spa apertium-eng-cat apertium-fra-cat"
_FOLDER = "/usr/share/apertium"
_MODE = re.compile(r"([a-z]{2,3})-([a-z]{2,3})(?:_([A-Z]{2}|valencia))?")
# Equally short chains go through the first of these: en-es-pt is as near to what a neural engine
# writes as en-ca-pt (chrF 48.3 and 47.9), pt-es-en nearer to the original (49.9 and 43.9).
_PIVOTS = ("en", "es", "fr")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_SPECIAL = re.compile(r"([\[\]{}^$/\\@<>])")  # of the format between the program's parts
_ESCAPE = r"\\\1"
_ESCAPED = re.compile(r"\\(.)")
_END = ".[][\n]"  # the end of a sentence, which nothing translates

Modes = Mapping[tuple[str, str], str]


class ApertiumTranslator:
    """A chain of installed modes; unknown words stay as they are, without a mark.

    Args:
        chain: languages from source to target, each step an installed mode.
        modes: (source, target) → name of the mode.
        name: of its columns in a manifest.
    """

    licence = "Apertium: GPL-2.0-or-later; each pair: its /usr/share/doc/PACKAGE/copyright"
    batch = 250
    own_threads = False

    def __init__(self, chain: Sequence[str], modes: Modes, name: str = "apertium") -> None:
        self.name, self.source, self.target = name, chain[0], chain[-1]
        self.modes = tuple(modes[step] for step in itertools.pairwise(chain))
        data = "\n".join(_mode_hash(folder(), mode) for mode in self.modes)
        self.version = f"{_program_version()} {' '.join(self.modes)} {sha256_text(data)[:12]}"

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Return one translation of each text, in order; ``""`` of a text without words.

        Raises:
            WeightsError: a mode is damaged.
        """
        made = [one_line(_CONTROL.sub(" ", text)) for text in texts]
        for mode in self.modes if made else ():
            made = _run(mode, made)
        return made


def open_translator(argument: str, source: str, target: str) -> ApertiumTranslator:
    """Return the chain for a direction.

    Args:
        argument: "" for the shortest chain, or one such as ``en-ca-fr``, which also serves the
            way back.
        source: language to read.
        target: language to write.

    Raises:
        ConfigError: the program is not installed.
        LanguageError: no chain of installed modes leads there.
    """
    modes = installed_modes(folder())
    if not argument:
        chain = shortest_chain(modes, source, target)
        if chain is None:
            raise _no_way(modes, source, target)
        return ApertiumTranslator(chain, modes)
    chain = [part.replace("_", "-") for part in argument.split("-")]
    if (chain[0], chain[-1]) == (target, source):
        chain.reverse()
    if (chain[0], chain[-1]) != (source, target):
        raise LanguageError(
            f"engine apertium:{argument}",
            expected=f"a chain from {source} to {target}",
            found=f"one from {chain[0]} to {chain[-1]}",
            remedy="correct the chain, or write apertium alone",
        )
    for step in itertools.pairwise(chain):
        if step not in modes:
            raise _no_way(modes, *step)
    return ApertiumTranslator(chain, modes, "-".join(["apertium", "via", *chain[1:-1]]))


def folder() -> Path:
    """Return where the modes of the installation are.

    Raises:
        ConfigError: the program is not installed.
    """
    if shutil.which("apertium") is None:
        raise ConfigError(
            "engine apertium",
            expected="the program apertium",
            found="no such program",
            remedy=f"run: {INSTALL}, or the pairs that you need",
        )
    return Path(os.environ.get("APERTIUM_DATADIR", _FOLDER))


def installed_modes(data: Path) -> dict[tuple[str, str], str]:
    """Return the direction → mode, in codes of BCP 47; variants are targets, such as pt-BR."""
    found: dict[tuple[str, str], str] = {}
    for file in sorted((data / "modes").glob("*.mode")):
        if match := _MODE.fullmatch(file.stem):
            source, target, variant = match.groups()
            code = two_letters(target) + (f"-{variant}" if variant else "")
            found[two_letters(source), code] = file.stem
    return found


def shortest_chain(modes: Modes, source: str, target: str) -> list[str] | None:
    """Return the shortest chain of languages from source to target; None if there is none."""
    if source == target:
        return None
    order = {code: place for place, code in enumerate(_PIVOTS)}
    steps = sorted(modes, key=lambda step: (order.get(step[1], len(order)), step))
    chains = [[source]]
    seen = {source}
    while chains:
        longer = []
        for chain in chains:
            for begin, end in steps:
                if begin == chain[-1] and end not in seen:
                    if end == target:
                        return [*chain, end]
                    seen.add(end)
                    longer.append([*chain, end])
        chains = longer
    return None


def _run(mode: str, texts: Sequence[str]) -> list[str]:
    """Run a mode over texts of one line."""
    framed = "".join(f"{_END}{_SPECIAL.sub(_ESCAPE, text)}{_END}\0" for text in texts)
    done = subprocess.run(
        ["apertium", "-z", "-f", "none", "-u", mode],
        input=framed.encode(errors="replace"),
        capture_output=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )
    pieces = done.stdout.decode(errors="replace").split("\0")
    made = pieces[: len(texts)]
    if done.returncode or len(pieces) <= len(texts) or not all(map(_is_framed, made)):
        raise WeightsError(
            f"apertium mode {mode}",
            expected=f"{len(texts)} translations",
            found=_last_line(done.stderr) or f"{len(pieces) - 1}",
            remedy=f"reinstall its package, and try: echo house | apertium {mode}",
        )
    plain = (_ESCAPED.sub(r"\1", piece[len(_END) : -len(_END)]) for piece in made)
    return [one_line(text) for text in plain]


def _is_framed(piece: str) -> bool:
    return len(piece) >= 2 * len(_END) and piece.startswith(_END) and piece.endswith(_END)


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:120] if lines else ""


@functools.cache
def _program_version() -> str:
    done = subprocess.run(["apertium", "-V"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix("Apertium ") or "unknown"


@functools.cache
def _mode_hash(data: Path, mode: str) -> str:
    """Return the hash of a mode and of all files that it names."""
    text = (data / "modes" / f"{mode}.mode").read_text(encoding="utf-8")
    files = [Path(name) for name in re.findall(r"'(/[^']+)'", text)]
    hashes = (sha256_file(file) if file.is_file() else "none" for file in files)
    return sha256_text("\n".join([text, *hashes]))


def _no_way(modes: Modes, source: str, target: str) -> LanguageError:
    targets = {end for _, end in modes}
    reached = sorted(end for end in targets if shortest_chain(modes, source, end))
    return LanguageError(
        f"engine apertium, {source} to {target}",
        expected=f"a language that installed pairs lead to: {', '.join(reached) or 'none'}",
        found=repr(target),
        remedy="choose one, or install a pair: apt-cache search ^apertium-",
    )
