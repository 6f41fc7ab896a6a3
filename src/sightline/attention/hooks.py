"""The one place that installs anything on a model, and takes it away: hooks, shadowed methods, attention handlers.

What is installed acts in the thread that installed it and nowhere else. Other threads that have nothing of their own on
the model are refused at its door, in one sentence: their passes would be neither plain nor measured. The configuration
is never touched: a module looks its attention function up under its own name, and finds ours in front of it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import RLock, current_thread, get_ident
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionFunction
from sightline.errors import ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api import close_attention_door, looks_attention_up, open_attention_door

Handler = Callable[..., "tuple[Tensor, Tensor | None]"]
"""handler(original, implementation, module, query, key, value, mask, **options), in place of original(module, ...)."""

BeforeHook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]
"""Of a forward's module, positional and keyword arguments: None, or the changed (args, kwargs)."""

AfterHook = Callable[[nn.Module, Any, Any], Any]
"""Of a forward's module, arguments and output: None, or the changed output."""

_LOCK = RLock()


@dataclass
class _Holder:
    """A model with something installed on it: how much by each thread, and the guards at its doors."""

    kind: str
    threads: Counter[int] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)
    guards: list[Any] = field(default_factory=list)


_HOLDERS: dict[int, _Holder] = {}
"""By the id of the model; empty whenever no `with` is open."""

_HANDLERS: dict[int, list[tuple[_Owner, Handler]]] = {}
"""By the id of an attention module, in the order of entry; empty whenever no `with` is open."""

_SHADOWS: dict[tuple[int, str], _Shadow] = {}
"""By the id of an object and the name of its method; empty whenever no `with` is open."""

_BYPASSED: set[tuple[int, int]] = set()
"""Threads and ids of models that are inside a pass which nothing may see or change."""


@contextmanager
def bypassed(model: Any) -> Iterator[None]:
    """Inside, this thread runs the model untouched and unseen, whatever is attached to it, also by other threads.

    model: an `Anatomy` or a `VLM`. For a method's second pass: the pass that it happens in goes on afterwards as if
    nothing had been. What models with three-dimensional positions keep about their last prompt (`rope_deltas`) is put
    back.
    """
    anatomy: Anatomy = getattr(model, "anatomy", model)
    key = (get_ident(), id(anatomy.model))
    if key in _BYPASSED:
        yield
        return
    kept = [(module, module.rope_deltas) for module in _with_rope_deltas(anatomy)]
    _BYPASSED.add(key)
    try:
        yield
    finally:
        _BYPASSED.discard(key)
        for module, deltas in kept:
            module.rope_deltas = deltas


def is_bypassed(anatomy: Anatomy) -> bool:
    """Whether this thread is inside a pass of the model that nothing may see or change."""
    return (get_ident(), id(anatomy.model)) in _BYPASSED


def _with_rope_deltas(anatomy: Anatomy) -> list[Any]:
    return [module for module in anatomy.model.modules() if hasattr(module, "rope_deltas")]


@dataclass(frozen=True)
class _Owner:
    """Who installed something: a thread, for a model; and whether it acts in bypassed passes, too."""

    thread: int
    model: int
    in_bypassed: bool

    @property
    def acts(self) -> bool:
        """Whether it acts on what runs now."""
        thread = get_ident()
        return thread == self.thread and (self.in_bypassed or (thread, self.model) not in _BYPASSED)


class Hooks:
    """What one `with` puts on a model, all taken away together, also after an exception; it may be filled again.

    in_bypassed: act in passes that are bypassed, as what runs such passes does.

    Raises:
        ModelError: by whatever installs, where another thread has something on a model that keeps a state of its last
            prompt (`rope_deltas`), so that two threads can't run it at a time.
    """

    def __init__(self, anatomy: Anatomy, in_bypassed: bool = False) -> None:
        self._anatomy = anatomy
        self._owner = _Owner(get_ident(), id(anatomy.model), in_bypassed)
        self._undo: list[Callable[[], Any]] = []

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether anything is installed."""
        return bool(self._undo)

    def before(self, module: nn.Module, hook: BeforeHook, prepend: bool = False) -> None:
        """Call `hook` before each forward of the module."""
        self._hold()
        handle = module.register_forward_pre_hook(_Hook(self._owner, hook), with_kwargs=True, prepend=prepend)
        self._undo.append(handle.remove)

    def after(self, module: nn.Module, hook: AfterHook, prepend: bool = False, always: bool = False) -> None:
        """Call `hook` after each forward of the module; always: also after one that raised."""
        self._hold()
        handle = module.register_forward_hook(_Hook(self._owner, hook), prepend=prepend, always_call=always)
        self._undo.append(handle.remove)

    def shadow(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Let `wrap(method)` stand for a method of this very object; those entered later are asked first."""
        self._hold()
        with _LOCK:
            shadow = _SHADOWS.get((id(owner), name))
            if shadow is None:
                shadow = _SHADOWS[id(owner), name] = _Shadow(owner, name)
            layer = (self._owner, wrap)
            shadow.layers.append(layer)
        self._undo.append(lambda: shadow.remove(layer))

    def intercept(self, modules: Iterable[nn.Module], handler: Handler) -> None:
        """Let `handler` answer each call that these modules make of their attention function.

        Raises:
            ModelError: for a module that does not look its attention function up where Transformers keeps them.
        """
        modules = list(modules)
        for module in modules:
            if not looks_attention_up(module):
                raise ModelError(
                    f"{type(module).__name__} does not look its attention up in the interface of Transformers, so "
                    "nothing is read."
                )
        self._hold()
        entry = (self._owner, handler)
        with _LOCK:
            if not _HANDLERS:
                open_attention_door(_dispatcher)
            for module in modules:
                _HANDLERS.setdefault(id(module), []).append(entry)
        self._undo.append(lambda: _release_handlers(modules, entry))

    def close(self) -> None:
        """Take everything away."""
        undo, self._undo = self._undo, []
        for step in reversed(undo):
            step()

    def _hold(self) -> None:
        """Note, with the first thing installed, that this thread has something on the model."""
        if self._undo:
            return
        with _LOCK:
            self._owner = owner = _Owner(get_ident(), self._owner.model, self._owner.in_bypassed)
            holder = _HOLDERS.get(owner.model)
            if holder is None:
                holder = _HOLDERS[owner.model] = _Holder(type(self._anatomy.model).__name__)
                guard = _Hook(None, functools.partial(_guard, holder, owner.model))
                for door in {id(part): part for part in (self._anatomy.model, self._anatomy.decoder)}.values():
                    holder.guards.append(door.register_forward_pre_hook(guard, with_kwargs=True, prepend=True))
            elif owner.thread not in holder.threads and _with_rope_deltas(self._anatomy):
                raise ModelError(
                    f"{holder.kind} keeps a state of its last prompt (rope_deltas), so two threads can't run it at a "
                    f"time, and the thread {_others(holder)} has a method or probe on it: load the model once a thread."
                )
            holder.threads[owner.thread] += 1
            holder.names[owner.thread] = current_thread().name
            self._undo.append(lambda: _let_go(owner))


def _let_go(owner: _Owner) -> None:
    with _LOCK:
        holder = _HOLDERS[owner.model]
        holder.threads[owner.thread] -= 1
        if not holder.threads[owner.thread]:
            del holder.threads[owner.thread]
        if not holder.threads:
            del _HOLDERS[owner.model]
            for handle in holder.guards:
                handle.remove()


def _others(holder: _Holder) -> str:
    return " and ".join(holder.names[thread] for thread in holder.threads)


def _guard(holder: _Holder, model: int, *_: Any) -> None:
    """At the model's door: a thread that has nothing on it may not run it while another thread has."""
    thread = get_ident()
    if thread not in holder.threads and (thread, model) not in _BYPASSED:
        raise ModelError(
            f"The thread {current_thread().name} runs {holder.kind} while a method or probe is on it that belongs to "
            f"the thread {_others(holder)}: enter the `with` in the thread that runs the model, or run it plainly "
            "inside `with sightline.bypassed(model)`."
        )


class _Hook:
    """A hook of a module that acts for its owner only; in a copy of the model, or a saved one, it does nothing."""

    def __init__(self, owner: _Owner | None, function: Callable[..., Any]) -> None:
        self._owner, self._function = owner, function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args) if self._owner is None or self._owner.acts else None

    def __reduce__(self) -> Any:
        # A function of Python's own that takes anything and returns None: whoever loads a saved model needs no more.
        return getattr, (nullcontext, "__exit__")


class _Shadow:
    """A method of one object with others in front of it, each for its owner only."""

    def __init__(self, owner: Any, name: str) -> None:
        self._object, self._name = owner, name
        self._had = name in owner.__dict__
        self._original = getattr(owner, name)
        self.layers: list[tuple[_Owner, Callable[..., Any]]] = []
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

    def remove(self, layer: tuple[_Owner, Callable[..., Any]]) -> None:
        """Take one away, and the shadow with the last."""
        with _LOCK:
            self.layers.remove(layer)
            if self.layers:
                return
            del _SHADOWS[id(self._object), self._name]
            if self._had:
                self._object.__dict__[self._name] = self._original
            else:
                del self._object.__dict__[self._name]


def _release_handlers(modules: list[nn.Module], entry: tuple[_Owner, Handler]) -> None:
    with _LOCK:
        for module in modules:
            handlers = _HANDLERS[id(module)]
            handlers.remove(entry)
            if not handlers:
                del _HANDLERS[id(module)]
        if not _HANDLERS:
            close_attention_door()


def _dispatcher(implementation: str, function: AttentionFunction) -> AttentionFunction:
    """What a module finds as its attention function while anything is intercepted."""
    return functools.partial(_dispatch, implementation, function)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _dispatch(
    implementation: str, function: AttentionFunction, module: nn.Module, *tensors: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    for owner, handler in _HANDLERS.get(id(module), ()):
        if owner.acts:
            function = functools.partial(handler, function, implementation)
    return function(module, *tensors, **options)
