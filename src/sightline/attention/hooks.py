"""Lends readers and editors of attention to a Transformers model, for as long as a `with` lasts.

Current models look their attention function up by a name in their configuration. On entry the name of the decoder's
attention becomes ours, registered beside a mask function that is the very one of the model's own implementation; on
exit the configuration, the hooks and the registries are as they were. The model's own kernel is still what computes
its output, with the arguments that it would have got, so a model that is only read gives bit-identical logits.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall, AttentionFunction
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.inner import find_inner, joined_inputs, note_prompt
from sightline.attention.passes import ForwardPass, LayoutSource, PassTracker
from sightline.attention.registry import (
    PREFIX,
    attention_configs,
    implementation_of,
    original_function,
    register,
    unregister,
)
from sightline.attention.token_subset import TokenSubset
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api import set_implementation


class Reader(Protocol):
    """Looks at attention while the model runs."""

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Layer `layer` computes its attention; edits that are in force are part of `attention`."""

    def end(self, step: ForwardPass) -> None:
        """The forward pass is over."""


class Editor(Protocol):
    """Changes attention while the model runs."""

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """What to change in this call; None where nothing changes, and the model's own kernel is then left alone."""


class PromptPruner(Protocol):
    """Leaves positions of the prompt out before the decoder runs; readers and editors are shown the shorter prompt."""

    def at_model(self, step: ForwardPass, inputs: dict[str, Any]) -> dict[str, Any]:
        """The model is entered: what its forward should be given instead of `inputs`."""

    def at_decoder(self, step: ForwardPass, inputs: dict[str, Any]) -> tuple[ForwardPass, dict[str, Any]]:
        """The decoder is entered: the step with the layout that is left, and what its forward should be given."""


class LayerPruner(Reader, Protocol):
    """Reads attention, and drops positions between layers; other readers and editors are shown the whole sequence."""

    def subset(self, layer: int) -> TokenSubset | None:
        """Which positions this layer runs on in this pass; None for all."""


@dataclass
class _Session:
    """What is lent to one model at present. It lives from the first `with` entered to the last one left.

    step: the pass that the decoder is in; waiting: one that has entered the model and not yet its decoder. prompt: what
    `generate` was given, in a model that lets an inner language model generate. users: how many `with` are open; undo:
    what takes all out again when the last is left.
    """

    anatomy: Anatomy
    readers: list[Reader]
    editors: list[Editor]
    counter: PassTracker
    shorteners: list[PromptPruner] = field(default_factory=list)
    dropper: LayerPruner | None = None
    step: ForwardPass | None = None
    waiting: ForwardPass | None = None
    prompt: Mapping[str, Any] | None = None
    users: int = 0
    undo: Callable[[], None] | None = None


_SESSIONS: dict[int, _Session] = {}
"""By the id of the model; empty whenever no `with` is open."""

_ATTENTIONS: dict[int, tuple[_Session, int, AttentionFunction]] = {}
"""By the id of an attention module: its session, its layer, its own function; empty whenever no `with` is open."""


_SUSPENDED: set[int] = set()
"""Ids of models that are inside a pass which no reader, editor or shortener may see."""


@contextmanager
def bypassed(anatomy: Anatomy) -> Iterator[None]:
    """Inside, the model runs untouched and unseen, whatever is lent to it: for a method's second pass.

    The pass of the model that this may happen in goes on afterwards as if nothing had been. The state that models with
    three-dimensional positions keep about their last prompt (`rope_deltas`) is put back.
    """
    key = id(anatomy.model)
    if key in _SUSPENDED:
        yield
        return
    kept = [(module, module.rope_deltas) for module in anatomy.model.modules() if hasattr(module, "rope_deltas")]
    session = _SESSIONS.get(key)
    steps = (session.step, session.waiting) if session is not None else (None, None)
    _SUSPENDED.add(key)
    if session is not None:
        session.step = session.waiting = None
    try:
        yield
    finally:
        _SUSPENDED.discard(key)
        if session is not None:
            session.step, session.waiting = steps
        for module, deltas in kept:
            module.rope_deltas = deltas


def is_bypassed(anatomy: Anatomy) -> bool:
    """Whether the model is inside a pass that nothing may see or change."""
    return id(anatomy.model) in _SUSPENDED


@contextmanager
def attach(
    anatomy: Anatomy,
    *,
    reader: Reader | None = None,
    editor: Editor | None = None,
    shortener: PromptPruner | None = None,
    dropper: LayerPruner | None = None,
    layout: LayoutSource | None = None,
) -> Iterator[None]:
    """Inside, `reader` sees and `editor` changes the attention of the model's decoder layers.

    anatomy: of the model. shortener: leaves positions of the prompt out; readers, editors and their layouts then know
    only the others. dropper: drops positions between layers; there can be but one. layout: a `TokenLayout` for all
    that is run inside, or a function from the forward's inputs to one; by default it is derived from the inputs.
    Several may be open at once on one model: editors act in the order of entry, and every reader sees what the model
    then uses.

    Raises:
        InputError: for a second dropper.
        ModelError: when the model's attention does not go through the interface, in which case nothing was changed.
    """
    session = _SESSIONS.get(id(anatomy.model))
    if session is not None and dropper is not None and session.dropper is not None:
        raise InputError("Two methods that drop tokens between layers can't act together: enter one of them.")
    if session is None:
        session = _Session(anatomy, [], [], PassTracker(anatomy))
        session.undo = _install(session)
    session.users += 1
    previous_layout = session.counter.source
    if layout is not None:
        session.counter.source = layout
    if reader is not None:
        session.readers.append(reader)
    if editor is not None:
        session.editors.append(editor)
    if shortener is not None:
        session.shorteners.append(shortener)
    if dropper is not None:
        session.dropper = dropper
    try:
        yield
    finally:
        if reader is not None:
            session.readers.remove(reader)
        if editor is not None:
            session.editors.remove(editor)
        if shortener is not None:
            session.shorteners.remove(shortener)
        if dropper is not None:
            session.dropper = None
        session.counter.source = previous_layout
        session.users -= 1
        if session.undo is not None and not session.users:
            session.undo()


def _install(session: _Session) -> Callable[[], None]:
    """Put our attention function in the model's place; returns what takes it out again."""
    anatomy = session.anatomy
    configs = attention_configs(anatomy)
    names = {id(config): implementation_of(config) for config in configs}
    attentions = {
        id(module): (session, layer, original_function(module, implementation_of(module.config)))
        for layer, module in enumerate(anatomy.attentions)
        if module is not None
    }
    if len(attentions) < len(anatomy.attention_layers):
        kind = type(anatomy.model).__name__
        raise ModelError(
            f"Layers of {kind} share one attention module, and what it computes can't be told apart by layer."
        )
    for name in sorted(set(names.values())):
        register(name, _attention_function(name))
    for config in configs:
        set_implementation(config, PREFIX + names[id(config)])
    handles = [
        anatomy.model.register_forward_pre_hook(_beginner(session), with_kwargs=True),
        anatomy.decoder.register_forward_pre_hook(_starter(session), with_kwargs=True),
        anatomy.model.register_forward_hook(_ender(session), always_call=True),
    ]
    inner = find_inner(anatomy)
    take_back: Callable[[], None] | None = None
    if inner is not None:
        handles.append(inner.register_forward_pre_hook(_beginner(session, inner), with_kwargs=True))
        handles.append(inner.register_forward_hook(_ender(session, is_inner=True), always_call=True))
        take_back = note_prompt(anatomy.model, functools.partial(setattr, session, "prompt"))
    _SESSIONS[id(anatomy.model)] = session
    _ATTENTIONS.update(attentions)

    def undo() -> None:
        for key in attentions:
            _ATTENTIONS.pop(key, None)
        _SESSIONS.pop(id(anatomy.model), None)
        for handle in handles:
            handle.remove()
        if take_back is not None:
            take_back()
        for config in configs:
            set_implementation(config, names[id(config)])
        for name in set(names.values()):
            unregister(name)

    return undo


def _attention_function(implementation: str) -> AttentionFunction:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        session, layer, original = _ATTENTIONS.get(id(module), (None, -1, None))
        if original is None:
            original = original_function(module, implementation)
        # Gradient checkpointing computes a layer again outside the model's forward pass: nothing is read twice.
        if session is None or session.step is None:
            return original(module, query, key, value, attention_mask, **options)
        step = session.step
        call = AttentionCall(
            module, query, key, value, attention_mask, implementation, original, options, offset=step.offset
        )
        dropper, subset = session.dropper, None
        if dropper is not None and (session.editors or session.readers):
            subset = dropper.subset(layer)
            call = call if subset is None else subset.scatter_call(call)
        edits: tuple[Edit, ...] = ()
        if session.editors:
            found = (editor.edit(layer, call, step) for editor in session.editors)
            edits = tuple(edit for edit in found if edit is not None)
        shown = EditedCall(call, edits)
        weights: Tensor | None = None
        if edits:
            output = shown.output()
            output = output if subset is None else subset.gather_output(output, int(query.shape[2]))
        else:
            output, weights = original(module, query, key, value, attention_mask, **options)
        # What is only looked at must not enter the graph that a backward pass goes through.
        with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
            for reader in session.readers:
                reader.read(layer, shown, step)
            if dropper is not None:
                dropper.read(layer, shown, step)
        return output, weights

    return attention  # type: ignore[no-any-return]


Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], "tuple[tuple[Any, ...], dict[str, Any]] | None"]


def _beginner(session: _Session, inner: nn.Module | None = None) -> Hook:
    """At the model's entry its inputs tell which step this is; at an inner model's, when `generate` runs that alone."""
    entered = session.anatomy.model if inner is None else inner
    parameters = inspect.signature(inspect.unwrap(type(entered).forward)).parameters.items()
    names = [name for name, kind in parameters if name != "self" and kind.kind is kind.POSITIONAL_OR_KEYWORD]

    def begin(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if is_bypassed(session.anatomy) or (inner is not None and session.prompt is None):
            return None
        session.step = session.waiting = None
        inputs = dict(zip(names, args, strict=False)) | kwargs
        if inner is not None:
            inputs = joined_inputs(session.prompt or {}, inputs)
        session.waiting = step = session.counter.next(inputs)
        if not session.shorteners:
            return None
        if inner is not None:
            raise ModelError(
                f"{type(session.anatomy.model).__name__} generates in parts, and its prompt can't be shortened."
            )
        for shortener in session.shorteners:
            inputs = shortener.at_model(step, inputs)
        return (), inputs

    return begin


def _starter(session: _Session) -> Hook:
    """At the decoder's entry the prompt has its final length, and readers and editors are told."""

    def start(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        step, session.waiting = session.waiting, None
        if step is None:
            return None
        for shortener in session.shorteners:
            step, kwargs = shortener.at_decoder(step, kwargs)
            session.counter.layout = step.layout
        for editor in session.editors:
            editor.begin(step)
        for reader in session.readers:
            reader.begin(step)
        if session.dropper is not None:
            session.dropper.begin(step)
        session.step = step
        return args, kwargs

    return start


def _ender(session: _Session, is_inner: bool = False) -> Callable[[nn.Module, Any, Any], None]:
    def end(module: nn.Module, args: Any, output: Any) -> None:
        if is_bypassed(session.anatomy) or (is_inner and session.prompt is None):
            return
        step, session.step, session.waiting = session.step, None, None
        if step is not None:
            for reader in session.readers:
                reader.end(step)
            if session.dropper is not None:
                session.dropper.end(step)

    return end
