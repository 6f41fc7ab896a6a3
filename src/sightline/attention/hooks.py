"""The one place that installs anything on a model, and takes it away: hooks, shadowed methods, attention handlers.

What is installed acts in the thread that installed it and nowhere else. Other threads that have nothing of their own on
the model are refused at its door, in one sentence: their passes would be neither plain nor measured. The configuration
is never touched: a module looks its attention function up under its own name, and finds ours in front of it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from threading import current_thread, get_ident
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionFunction
from sightline.attention.ownership import LOCK, Hook, Owner, shadow
from sightline.errors import ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.entered import note_installed
from sightline.models.transformers_api.attention import close_attention_door, open_attention_door, require_readable
from sightline.models.transformers_api.generation import CONTINUOUS_BATCHING

Handler = Callable[..., "tuple[Tensor, Tensor | None]"]
"""handler(original, implementation, module, query, key, value, mask, **options), in place of original(module, ...)."""

BeforeHook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]
"""Of a forward's module, positional and keyword arguments: None, or the changed (args, kwargs)."""

AfterHook = Callable[[nn.Module, Any, Any], Any]
"""Of a forward's module, arguments and output: None, or the changed output."""


@dataclass
class _Holder:
    """A model with something installed on it: how much by each thread, the threads' names, and the guards' undo."""

    kind: str
    threads: Counter[int | None] = field(default_factory=Counter)
    names: dict[int | None, str] = field(default_factory=dict)
    undo: list[Callable[[], Any]] = field(default_factory=list)
    filled: list[Hooks] = field(default_factory=list)

    @property
    def others(self) -> str:
        """The names of the threads that have something on the model."""
        return " and ".join(self.names[thread] for thread in self.threads)


_HOLDERS: dict[int, _Holder] = {}
"""By the id of the model; empty whenever no `with` is open."""

_HANDLERS: dict[int, list[tuple[Owner, Handler]]] = {}
"""By the id of an attention module, in the order of entry; empty whenever no `with` is open."""


def filled_hooks(anatomy: Anatomy) -> list[Hooks]:
    """All that this thread has on the model."""
    holder = _HOLDERS.get(id(anatomy.model))
    return [] if holder is None else [hooks for hooks in holder.filled if hooks.thread == get_ident()]


class Hooks:
    """What one `with` puts on a model, all taken away together, also after an exception; it may be filled again.

    in_bypassed: act in passes that are bypassed, as what runs such passes does. keeps_rows: what is installed looks at
    `ownership.own_rows`, or at no tensor of a decoding step, so that other rows may stand beside those of a pass.

    Raises:
        ModelError: by whatever installs, where another thread has something on a model that keeps a state of its last
            prompt, so that two threads can't run it at a time.
    """

    def __init__(self, anatomy: Anatomy, in_bypassed: bool = False, keeps_rows: bool = False) -> None:
        self._anatomy = anatomy
        self.keeps_rows = keeps_rows
        self._owner = Owner(get_ident(), id(anatomy.model), in_bypassed)
        self._undo: list[Callable[[], Any]] = []

    def __enter__(self) -> Hooks:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether anything is installed."""
        return bool(self._undo)

    @property
    def thread(self) -> int | None:
        """The one that installed it."""
        return self._owner.thread

    def before(self, module: nn.Module, hook: BeforeHook, prepend: bool = False) -> None:
        """Call `hook` before each forward of the module."""
        self._hold()
        handle = module.register_forward_pre_hook(Hook(self._owner, hook), with_kwargs=True, prepend=prepend)
        self._undo.append(handle.remove)

    def after(self, module: nn.Module, hook: AfterHook, prepend: bool = False, always: bool = False) -> None:
        """Call `hook` after each forward of the module; always: also after one that raised."""
        self._hold()
        handle = module.register_forward_hook(Hook(self._owner, hook), prepend=prepend, always_call=always)
        self._undo.append(handle.remove)

    def shadow(self, owner: Any, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Let `wrap(method)` stand for a method of this very object; the latest comes first."""
        self._hold()
        self._undo.append(shadow(owner, name, (self._owner, wrap)))

    def intercept(self, modules: Iterable[nn.Module], handler: Handler) -> None:
        """Let `handler` answer each call that these modules make of their attention function.

        Raises:
            ModelError: for a module that does not look its attention function up where Transformers keeps them.
        """
        modules = list(modules)
        for module in modules:
            require_readable(module)
        self._hold()
        entry = (self._owner, handler)
        with LOCK:
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
        note_installed(self._owner.model)
        if self._undo:
            return
        with LOCK:
            self._owner = owner = Owner(get_ident(), self._owner.model, self._owner.in_bypassed)
            holder = _HOLDERS.get(owner.model)
            if holder is None:
                holder = _HOLDERS[owner.model] = _guarded(self._anatomy)
            elif owner.thread not in holder.threads and self._anatomy.prompt_keepers:
                raise ModelError(
                    f"{holder.kind} keeps a state of its last prompt, so two threads can't run it at a "
                    f"time, and the thread {holder.others} has a method or probe on it: load the model once a thread."
                )
            holder.threads[owner.thread] += 1
            holder.names[owner.thread] = current_thread().name
            holder.filled.append(self)
            self._undo.append(lambda: _let_go(owner, self))


def _guarded(anatomy: Anatomy) -> _Holder:
    """The model with guards at its doors, against threads that have nothing on it and against packed sequences."""
    model, holder = anatomy.model, _Holder(type(anatomy.model).__name__)
    everyone = Owner(None, id(model), False)
    guard = Hook(everyone, functools.partial(_guard, holder))
    for door in {id(part): part for part in (model, anatomy.decoder)}.values():
        holder.undo.append(door.register_forward_pre_hook(guard, with_kwargs=True, prepend=True).remove)
    for name in CONTINUOUS_BATCHING:
        if hasattr(model, name):
            holder.undo.append(shadow(model, name, (everyone, functools.partial(_refused, name))))
    return holder


def _let_go(owner: Owner, hooks: Hooks) -> None:
    with LOCK:
        holder = _HOLDERS[owner.model]
        holder.filled.remove(hooks)
        holder.threads[owner.thread] -= 1
        if not holder.threads[owner.thread]:
            del holder.threads[owner.thread]
        if not holder.threads:
            del _HOLDERS[owner.model]
            for step in holder.undo:
                step()


def _guard(holder: _Holder, *_: Any) -> None:
    """At the model's door: a thread that has nothing on it may not run it while another thread has."""
    if get_ident() not in holder.threads:
        raise ModelError(
            f"The thread {current_thread().name} runs {holder.kind} while a method or probe is on it that belongs to "
            f"the thread {holder.others}: enter the `with` in the thread that runs the model, or run it plainly "
            "inside `with sightline.bypassed(model)`."
        )


def _refused(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ModelError(
            f"{name} packs many prompts into one sequence (continuous batching), which no method or probe can read or "
            "change rightly: call generate."
        )

    return refuse


def _release_handlers(modules: list[nn.Module], entry: tuple[Owner, Handler]) -> None:
    with LOCK:
        for module in modules:
            handlers = _HANDLERS[id(module)]
            handlers.remove(entry)
            if not handlers:
                del _HANDLERS[id(module)]
        if not _HANDLERS:
            close_attention_door()


def _dispatcher(implementation: str, function: AttentionFunction) -> AttentionFunction:
    """What a module finds as its attention function while anything is intercepted."""
    # The wrapper that keeps a compiler out costs more than all else here, so it stands where one traces.
    dispatch = _untraced_dispatch if torch.compiler.is_compiling() else _dispatch
    return functools.partial(dispatch, implementation, function)


def _dispatch(
    implementation: str, function: AttentionFunction, module: nn.Module, *tensors: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    handlers = [handler for owner, handler in _HANDLERS.get(id(module), ()) if owner.acts]
    if len(handlers) == 1:
        return handlers[0](function, implementation, module, *tensors, **options)
    for handler in handlers:
        function = functools.partial(handler, function, implementation)
    return function(module, *tensors, **options)


_untraced_dispatch = torch.compiler.disable(_dispatch)  # type: ignore[no-untyped-call]
