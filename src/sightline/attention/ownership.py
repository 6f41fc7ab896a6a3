"""Whose passes something acts on: a thread's own ones, less those that are bypassed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import RLock, get_ident
from typing import Any

from torch import Tensor, nn

from sightline.models.anatomy import Anatomy, find_anatomy
from sightline.models.transformers_api.cache import kept_prompts

LOCK = RLock()
"""Held while something is installed or taken away."""

_SHADOWS: dict[tuple[int, str], _Shadow] = {}
"""By the id of an object and the name of its method; empty whenever no `with` is open."""

_BYPASSED: set[tuple[int, int]] = set()
"""Threads and ids of models that are inside a pass which nothing may see or change."""


@contextmanager
def bypassed(model: Any) -> Iterator[None]:
    """Inside, this thread runs the model untouched and unseen, whatever is attached to it, also by other threads.

    model: an `Anatomy`, a `VLM` or a bare Transformers model. For a method's second pass: the pass that it happens in
    goes on afterwards as if nothing had been. What models with three-dimensional positions keep about their last prompt
    is put back.
    """
    anatomy: Anatomy = find_anatomy(model) if isinstance(model, nn.Module) else getattr(model, "anatomy", model)
    key = (get_ident(), id(anatomy.model))
    if key in _BYPASSED:
        yield
        return
    with kept_prompts(anatomy.prompt_keepers):
        _BYPASSED.add(key)
        try:
            yield
        finally:
            _BYPASSED.discard(key)


def is_bypassed(anatomy: Anatomy) -> bool:
    """Whether this thread is inside a pass of the model that nothing may see or change."""
    return (get_ident(), id(anatomy.model)) in _BYPASSED


@dataclass(frozen=True)
class OwnRows:
    """The first `count` rows of a batch are the pass at hand; what is attached neither sees nor changes the others.

    pad: keys before those rows' own that only fill up. is_open: they see every key of theirs, as without a mask.
    """

    count: int
    pad: int
    is_open: bool

    def split(self, *tensors: Tensor, mask: Any, options: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Query, key, value, mask and options of the own rows, as if they were alone, and those of the others."""
        query, key, value = tensors
        count, pad = self.count, self.pad
        own_mask = None if mask is None or self.is_open else mask[:count, ..., pad:]
        bias = options.get("position_bias")
        own_options = options if bias is None else {**options, "position_bias": bias[..., pad:]}
        own = query[:count], key[:count, :, pad:], value[:count, :, pad:], own_mask, own_options
        return own, (query[count:], key[count:], value[count:], None if mask is None else mask[count:], options)


_OWN_ROWS: dict[tuple[int, int], OwnRows] = {}
"""By thread and id of the model; empty whenever no pass with rows beside it runs."""


def own_rows(anatomy: Anatomy) -> OwnRows | None:
    """Which rows of this thread's pass are its own; None for all."""
    return _OWN_ROWS.get((get_ident(), id(anatomy.model))) if _OWN_ROWS else None


def set_own_rows(anatomy: Anatomy, rows: OwnRows | None) -> None:
    """Let these rows be the pass at hand."""
    key = (get_ident(), id(anatomy.model))
    if rows is None:
        _OWN_ROWS.pop(key, None)
    else:
        _OWN_ROWS[key] = rows


@dataclass(frozen=True)
class Owner:
    """Who installed something: a thread (None: acts in all), for a model; and whether it acts in bypassed passes."""

    thread: int | None
    model: int
    in_bypassed: bool

    @property
    def acts(self) -> bool:
        """Whether it acts on what runs now."""
        thread = get_ident()
        if self.thread != thread and self.thread is not None:
            return False
        return not _BYPASSED or self.in_bypassed or (thread, self.model) not in _BYPASSED


class Hook:
    """A hook of a module that acts for its owner only; in a copy of the model, or a saved one, it does nothing."""

    def __init__(self, owner: Owner, function: Callable[..., Any]) -> None:
        self._owner, self._function = owner, function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args) if self._owner.acts else None

    def __reduce__(self) -> Any:
        # A function of Python's own that takes anything and returns None: whoever loads a saved model needs no more.
        return getattr, (nullcontext, "__exit__")


def shadow(owner: Any, name: str, layer: tuple[Owner, Callable[..., Any]]) -> Callable[[], None]:
    """Put one more function in front of a method of this very object; returns what takes it away."""
    with LOCK:
        found = _SHADOWS.get((id(owner), name))
        if found is None:
            found = _SHADOWS[id(owner), name] = _Shadow(owner, name)
        found.layers.append(layer)
    return functools.partial(found.remove, layer)


class _Shadow:
    """A method of one object with others in front of it, each for its owner only."""

    def __init__(self, owner: Any, name: str) -> None:
        self._object, self._name = owner, name
        self._had = name in owner.__dict__
        self._original = getattr(owner, name)
        self.layers: list[tuple[Owner, Callable[..., Any]]] = []
        functools.update_wrapper(self, self._original)
        owner.__dict__[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function = self._original
        for owner, wrap in list(self.layers):
            if owner.acts:
                function = wrap(function)
        return function(*args, **kwargs)

    def __reduce__(self) -> Any:
        # A copy of the object has its own method again.
        return getattr, (self._object, self._name)

    def remove(self, layer: tuple[Owner, Callable[..., Any]]) -> None:
        """Take one away, and the shadow with the last."""
        with LOCK:
            self.layers.remove(layer)
            if self.layers:
                return
            del _SHADOWS[id(self._object), self._name]
            if self._had:
                self._object.__dict__[self._name] = self._original
            else:
                del self._object.__dict__[self._name]
