"""What can be named: tables of name to module, which load nothing; entry points of other packages; modules by --plugin.

A name is known before its module is imported, so that a wrong one is refused without loading torch. Another package
adds methods, benchmarks and commands by entry points in the groups `sightline.methods`, `sightline.benchmarks` and
`sightline.commands`; a module that is in no package is imported by `load_plugin`, or by --plugin on the command line.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from sightline.errors import InputError

Entry = TypeVar("Entry")
Kind = TypeVar("Kind", bound=type[Any])


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Names of one sort, each with what it stands for, which is imported when it is looked up.

    Attributes:
        noun: what one of them is called in a sentence, as "method".
        plural: what several are called.
        group: the entry points of other packages that add to them.
        homes: the module that registers each name of this package.
        attribute: the name, in its module, of what an entry stands for; None where modules register it themselves.
    """

    def __init__(self, noun: str, plural: str, group: str, homes: Mapping[str, str], attribute: str | None = None):
        self.noun, self.plural, self.group = noun, plural, group
        self.homes: dict[str, str] = dict(homes)
        self.attribute = attribute
        self._found: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        """Make `entry` known by `name`.

        Raises:
            InputError: for a name that stands for something else already.
        """
        place = _place(entry)
        home = _place(self._found[name]) if name in self._found else self.homes.get(name, "")
        if home and home.partition(":")[0] != place.partition(":")[0]:
            raise InputError(f"There are two {self.plural} named '{name}', in {home} and in {place}: rename one.")
        self._found[name] = entry

    def register(self, kind: Kind) -> Kind:
        """Class decorator: make a class known by its `name`."""
        self.add(kind.name, kind)  # type: ignore[arg-type]
        return kind

    def forget(self, name: str) -> None:
        """Take an added name out again."""
        self._found.pop(name, None)

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported."""
        return sorted({*self.homes, *self._found, *(point.name for point in self._points())})

    def check(self, name: str, *extra: str) -> None:
        """InputError, with the names there are, for a name that stands for nothing. extra: names that do besides."""
        # Looking for other packages takes a moment, which a name of our own need not wait for.
        if name in self.homes or name in self._found or name in extra or self._point(name) is not None:
            return
        known = [*extra, *self.names()]
        near = difflib.get_close_matches(name.lower(), known, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"There is no {self.noun} named '{name}'{meant}; the {self.plural} are {', '.join(known)}.")

    def __getitem__(self, name: str) -> Entry:
        if name in self._found:
            return self._found[name]
        if name in self.homes:
            module = importlib.import_module(self.homes[name])
            if self.attribute is not None:
                self._found[name] = getattr(module, self.attribute)
            return self._found[name]
        point = self._point(name)
        if point is None:
            raise KeyError(name)
        try:
            entry: Entry = point.load()
        except Exception as error:
            package = point.dist.name if point.dist is not None else point.value
            raise InputError(
                f"The {self.noun} '{name}' of the package {package} can't be loaded: {type(error).__name__}: {error}"
            ) from error
        self._found[name] = entry
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self.homes or name in self._found or (isinstance(name, str) and self._point(name) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def _points(self) -> list[EntryPoint]:
        return [point for point in entry_points(group=self.group) if point.name not in self.homes]

    def _point(self, name: str) -> EntryPoint | None:
        return next((point for point in self._points() if point.name == name), None)


def load_plugin(module: str) -> None:
    """Import a module, on the path or in the folder at hand, for the methods and benchmarks that it registers.

    Raises:
        InputError: for a module that is not there, or fails to import.
    """
    folder = os.getcwd()  # noqa: PTH109 (as Python itself puts it on the path)
    is_added = folder not in sys.path and "" not in sys.path
    if is_added:
        sys.path.append(folder)
    try:
        importlib.import_module(module)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"The plugin {module} can't be imported: {type(error).__name__}: {error}") from error
    finally:
        if is_added:
            sys.path.remove(folder)


def _place(entry: Any) -> str:
    """Where something is defined, as "module:name"."""
    return f"{getattr(entry, '__module__', '')}:{getattr(entry, '__qualname__', getattr(entry, 'name', ''))}"
