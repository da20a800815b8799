"""Look up built-in parts by name, and plug-ins by entry point.

No part is imported before it is asked for by its name, so names are listed quickly and a broken
package harms its own parts alone. A name of cl2cm's own always means cl2cm's own part.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from cl2cm.errors import CL2CMError, ConfigError, nearest
from cl2cm.progress import say


@dataclass(frozen=True, slots=True)
class Registry:
    """The parts of one kind.

    Attributes:
        what: one of them, such as ``method``.
        group: the entry points of other packages.
        option: what a user names one with; the subject of an error about an unknown name.
        package: where cl2cm's own are.
        built_in: name → ``module:attribute`` in that package.
        flaw: says what keeps an object from being the part of a name; empty if nothing does.
        forms: name → how a user writes it, if there is more to it than the name.
    """

    what: str
    group: str
    option: str
    package: str
    built_in: Mapping[str, str]
    flaw: Callable[[object, str], str]
    forms: Mapping[str, str] = field(default_factory=dict[str, str])

    def plug_ins(self) -> dict[str, list[EntryPoint]]:
        """Return the parts of other packages by name; more than one of a name is a conflict."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            if entry.name not in self.built_in:
                found.setdefault(entry.name, []).append(entry)
        return found

    def names(self) -> list[str]:
        """Return all names: the built-in ones, then plug-ins."""
        return [*self.built_in, *sorted(self.plug_ins())]

    def load(self, name: str) -> object:
        """Return the part of a name.

        Raises:
            ConfigError: there is none of that name, or its package is broken.
        """
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(import_module(f"{self.package}.{module}"), attribute)
        entry = self._entry(name)
        try:
            found = entry.load()
            flaw = self.flaw(found, name)
        except (Exception, SystemExit) as error:
            raise self.broken(name, f"to import {entry.value}", _line(error)) from error
        if flaw:
            raise self.broken(name, f"{entry.value} to be a {self.what} (docs/extending.md)", flaw)
        return found

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Turn what a part of another package raises into one line; errors of cl2cm pass.

        Raises:
            ConfigError: the part of another package raised something.
        """
        try:
            yield
        except CL2CMError:
            raise
        except (Exception, SystemExit) as error:
            if name in self.built_in:
                raise
            raise self.broken(name, f"a {self.what} that works", _line(error)) from error

    def broken(self, name: str, expected: str, found: str) -> ConfigError:
        """Return the error about a part of another package."""
        return ConfigError(
            f"{self.what} {name!r} of the package {package_of(self._entry(name))}",
            expected=expected,
            found=found,
            remedy="repair or uninstall that package",
        )

    def warn_of_shadowed(self, names: Iterable[str]) -> None:
        """Tell the user if another package offers a part under the name of one of cl2cm's own."""
        for name in names:
            for entry in entry_points(group=self.group, name=name):
                if name in self.built_in:
                    say(
                        f"warning: {name!r} is cl2cm's own {self.what}; the one of the package "
                        f"{package_of(entry)} is not used and needs another name"
                    )

    def _entry(self, name: str) -> EntryPoint:
        """Return the entry point of another package.

        Raises:
            ConfigError: there is none, or two packages have one of that name.
        """
        entries = self.plug_ins().get(name, [])
        if not entries:
            known = self.names()
            raise ConfigError(
                self.option,
                expected=f"one of {', '.join(self.forms.get(one, one) for one in known)}",
                found=repr(name),
                remedy=f"{nearest(name, known, listed=True)} or install the package that has it",
            )
        if len(entries) > 1:
            raise ConfigError(
                f"{self.what} {name!r}",
                expected="one package that has it",
                found=", ".join(sorted(map(package_of, entries))),
                remedy="uninstall the others",
            )
        return entries[0]


def package_of(entry: EntryPoint) -> str:
    """Return the package of an entry point, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "(unknown)"


def _line(error: BaseException) -> str:
    """Return what was raised, as one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
