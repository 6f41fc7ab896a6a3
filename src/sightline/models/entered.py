"""Which methods a thread has entered on which model.

A method counts from the first thing that it installs there, so that settings which change nothing do not.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from threading import get_ident
from types import TracebackType
from typing import Any

_ENTERED: dict[tuple[int, int], list[Entered]] = {}
"""By thread and id of the model, in the order of entry; empty whenever no method's `with` is open."""

_ENTERING: ContextVar[Entered | None] = ContextVar("sightline_method_entering", default=None)


class Entered(AbstractContextManager[Any]):
    """A method's `with`: what is installed while it is entered is the method's."""

    def __init__(self, name: str, acting: AbstractContextManager[Any]) -> None:
        self.name, self._acting = name, acting
        self._keys: list[tuple[int, int]] = []

    def __enter__(self) -> Any:
        token = _ENTERING.set(self)
        try:
            return self._acting.__enter__()
        except BaseException:
            self._leave()
            raise
        finally:
            _ENTERING.reset(token)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._acting.__exit__(kind, error, trace)
        finally:
            self._leave()

    def note(self, model: int) -> None:
        """Something was installed on the model of this id."""
        key = (get_ident(), model)
        if key not in self._keys:
            self._keys.append(key)
            _ENTERED.setdefault(key, []).append(self)

    def _leave(self) -> None:
        for key in self._keys:
            _ENTERED[key].remove(self)
            if not _ENTERED[key]:
                del _ENTERED[key]
        self._keys.clear()


def note_installed(model: int) -> None:
    """Something was installed on the model of this id: by the method that is being entered, if one is."""
    entering = _ENTERING.get()
    if entering is not None:
        entering.note(model)


def entered_methods(model: int) -> tuple[str, ...]:
    """The names of the methods that this thread has on the model of this id, in the order of entry."""
    return tuple(dict.fromkeys(each.name for each in _ENTERED.get((get_ident(), model), ())))
