"""Methods by name: those of cl2cm, and those of other packages by entry points.

No method is imported before it is asked for by its name, so that names can be listed quickly and
a package that is broken harms its own methods alone.
"""

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, cast

from cl2cm.errors import ConfigError, nearest
from cl2cm.progress import say

if TYPE_CHECKING:
    from cl2cm.methods.base import Method

GROUP = "cl2cm.methods"  # of the entry points
METHODS = {
    "zero-shot": "zero_shot:ZeroShot",
    "translate-test": "translate_test:TranslateTest",
    "translate-train": "translate_train:TranslateTrain",
    "text-distill": "text_distill:TextDistill",
    "nrccr": "nrccr:Nrccr",
    "dcot": "dcot:Dcot",
    "cl2cm": "cl2cm:CL2CM",
    "supervised": "supervised:Supervised",
    "smoothing": "smoothing:Smoothing",
    "self-distill": "self_distill:SelfDistill",
}  # name -> module of this package, and class in it


def plug_ins() -> dict[str, list[EntryPoint]]:
    """Return the methods of other packages by name; more than one of a name is a conflict."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        if entry.name not in METHODS:
            found.setdefault(entry.name, []).append(entry)
    return found


def method_names() -> list[str]:
    """Return the names of all methods, those of other packages last."""
    return [*METHODS, *sorted(plug_ins())]


def method_class(name: str) -> "type[Method]":
    """Return the method of a name.

    Raises:
        ConfigError: there is none of that name, or its package is broken.
    """
    if name in METHODS:
        module, _, attribute = METHODS[name].partition(":")
        found = getattr(import_module(f"cl2cm.methods.{module}"), attribute)
        return cast("type[Method]", found)
    others = plug_ins()
    if name not in others:
        known = [*METHODS, *sorted(others)]
        raise ConfigError(
            "method",
            expected=f"one of {', '.join(known)}",
            found=repr(name),
            remedy=nearest(name, known),
        )
    first, *rest = others[name]
    if rest:
        packages = ", ".join(sorted(_package(entry) for entry in others[name]))
        raise ConfigError(
            f"method {name!r}",
            expected="one package that has it",
            found=packages,
            remedy="uninstall the others",
        )
    return _load(first)


def tell_of_shadowed(names: Iterable[str]) -> None:
    """Tell the user where another package offers a method under the name of one of cl2cm's own."""
    for entry in entry_points(group=GROUP):
        if entry.name in METHODS and entry.name in names:
            say(
                f"warning: {entry.name!r} is cl2cm's own method; "
                f"the one of the package {_package(entry)} is not used and needs another name"
            )


def _load(entry: EntryPoint) -> "type[Method]":
    package = _package(entry)
    subject = f"method {entry.name!r} of the package {package}"
    try:
        found = entry.load()
    except (Exception, SystemExit) as error:
        raise ConfigError(
            subject,
            expected=f"to import {entry.value}",
            found=f"{type(error).__name__}: {error}",
            remedy="mend or uninstall that package",
        ) from error
    flaw = import_module("cl2cm.methods.protocol").flaw(found, entry.name)
    if flaw:
        raise ConfigError(
            subject,
            expected=f"{entry.value} to be a method (docs/extending.md)",
            found=flaw,
            remedy="mend or uninstall that package",
        )
    return cast("type[Method]", found)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "(unknown)"
