"""Lends readers and editors of attention to a Transformers model, for as long as a `with` lasts.

Current models look their attention function up by a name in their configuration. On entry the name of the decoder's
attention becomes ours, registered beside a mask function that is the very one of the model's own implementation; on
exit the configuration, the hooks and the registries are as they were. The model's own kernel is still what computes
its output, with the arguments that it would have got, so a model that is only read gives bit-identical logits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sightline.anatomy import Anatomy
from sightline.attention.call import AttentionCall, AttentionFunction
from sightline.attention.edits import Edit, EditedCall
from sightline.attention.spread import Spread
from sightline.attention.steps import LayoutSource, Step, StepCounter
from sightline.errors import InputError, ModelError

PREFIX = "sightline_"


class Reader(Protocol):
    """Looks at attention while the model runs."""

    def begin(self, step: Step) -> None:
        """A forward pass starts."""

    def read(self, layer: int, attention: EditedCall, step: Step) -> None:
        """Layer `layer` computes its attention; edits that are in force are part of `attention`."""

    def end(self, step: Step) -> None:
        """The forward pass is over."""


class Editor(Protocol):
    """Changes attention while the model runs."""

    def begin(self, step: Step) -> None:
        """A forward pass starts."""

    def edit(self, layer: int, call: AttentionCall, step: Step) -> Edit | None:
        """What to change in this call; None where nothing changes, and the model's own kernel is then left alone."""


class Shortener(Protocol):
    """Leaves positions of the prompt out before the decoder runs; readers and editors are shown the shorter prompt."""

    def at_model(self, step: Step, inputs: dict[str, Any]) -> dict[str, Any]:
        """The model is entered: what its forward should be given instead of `inputs`."""

    def at_decoder(self, step: Step, inputs: dict[str, Any]) -> tuple[Step, dict[str, Any]]:
        """The decoder is entered: the step with the layout that is left, and what its forward should be given."""


class Dropper(Reader, Protocol):
    """Reads attention, and drops positions between layers; other readers and editors are shown the whole sequence."""

    def spread(self, layer: int) -> Spread | None:
        """Which positions this layer runs on in this pass; None for all."""


@dataclass
class _Session:
    """What is lent to one model at present. It lives from the first `with` entered to the last one left.

    step: the pass that the decoder is in; waiting: one that has entered the model and not yet its decoder.
    """

    anatomy: Anatomy
    readers: list[Reader]
    editors: list[Editor]
    counter: StepCounter
    shorteners: list[Shortener] = field(default_factory=list)
    dropper: Dropper | None = None
    step: Step | None = None
    waiting: Step | None = None


_SESSIONS: dict[int, _Session] = {}
"""By the id of the model; empty whenever no `with` is open."""

_ATTENTIONS: dict[int, tuple[_Session, int, AttentionFunction]] = {}
"""By the id of an attention module: its session, its layer, its own function; empty whenever no `with` is open."""


_SUSPENDED: set[int] = set()
"""Ids of models that are inside a pass which no reader, editor or shortener may see."""


@contextmanager
def suspended(anatomy: Anatomy) -> Iterator[None]:
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


def is_suspended(anatomy: Anatomy) -> bool:
    """Whether the model is inside a pass that nothing may see or change."""
    return id(anatomy.model) in _SUSPENDED


@contextmanager
def lend(
    anatomy: Anatomy,
    *,
    reader: Reader | None = None,
    editor: Editor | None = None,
    shortener: Shortener | None = None,
    dropper: Dropper | None = None,
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
    undo: Callable[[], None] | None = None
    if session is None:
        session = _Session(anatomy, [], [], StepCounter(anatomy))
        undo = _install(session)
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
        if undo is not None:
            undo()


def _install(session: _Session) -> Callable[[], None]:
    """Put our attention function in the model's place; returns what takes it out again."""
    anatomy = session.anatomy
    configs = _attention_configs(anatomy)
    names = {id(config): _implementation(config) for config in configs}
    registered = [_register(name) for name in sorted(set(names.values()))]
    attentions = {
        id(module): (session, layer, _original(module, _implementation(module.config)))
        for layer, module in enumerate(anatomy.attentions)
        if module is not None
    }
    for config in configs:
        config._attn_implementation_internal = PREFIX + names[id(config)]
    handles = [
        anatomy.model.register_forward_pre_hook(_beginner(session), with_kwargs=True),
        anatomy.decoder.register_forward_pre_hook(_starter(session), with_kwargs=True),
        anatomy.model.register_forward_hook(_ender(session), always_call=True),
    ]
    _SESSIONS[id(anatomy.model)] = session
    _ATTENTIONS.update(attentions)

    def undo() -> None:
        for key in attentions:
            _ATTENTIONS.pop(key, None)
        _SESSIONS.pop(id(anatomy.model), None)
        for handle in handles:
            handle.remove()
        for config in configs:
            config._attn_implementation_internal = names[id(config)]
        if not _SESSIONS:
            for unregister in registered:
                unregister()

    return undo


def _attention_configs(anatomy: Anatomy) -> list[Any]:
    """The distinct configuration objects that the decoder and its attention modules look their implementation up in."""
    holders = [anatomy.decoder, *(module for module in anatomy.attentions if module is not None)]
    found = {id(config): config for holder in holders if (config := getattr(holder, "config", None)) is not None}
    found.setdefault(id(anatomy.text_config), anatomy.text_config)
    return [config for config in found.values() if hasattr(config, "_attn_implementation_internal")]


def _implementation(config: Any) -> str:
    name = config._attn_implementation_internal or "eager"
    if name.startswith("paged|"):
        raise ModelError(
            f"Attention of kind {name} serves continuous batching and cannot be read: load with sdpa or eager."
        )
    return str(name).removeprefix(PREFIX)


def _register(implementation: str) -> Callable[[], None]:
    """Enter our name for an implementation in both registries; returns what takes it out again."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = PREFIX + implementation
    attention, masks = type(ALL_ATTENTION_FUNCTIONS)._global_mapping, type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping
    attention[name] = _attention_function(implementation)
    # Without a mask function of its own a custom name would silently lose the causal mask.
    if implementation in ALL_MASK_ATTENTION_FUNCTIONS:
        masks[name] = ALL_MASK_ATTENTION_FUNCTIONS[implementation]

    def unregister() -> None:
        attention.pop(name, None)
        masks.pop(name, None)

    return unregister


def _attention_function(implementation: str) -> AttentionFunction:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        session, layer, original = _ATTENTIONS.get(id(module), (None, -1, None))
        if original is None:
            original = _original(module, implementation)
        # Gradient checkpointing computes a layer again outside the model's forward pass: nothing is read twice.
        if session is None or session.step is None:
            return original(module, query, key, value, attention_mask, **options)
        step = session.step
        call = AttentionCall(
            module, query, key, value, attention_mask, implementation, original, options, offset=step.offset
        )
        dropper, spread = session.dropper, None
        if dropper is not None and (session.editors or session.readers):
            spread = dropper.spread(layer)
            call = call if spread is None else spread.widen(call)
        edits: tuple[Edit, ...] = ()
        if session.editors:
            found = (editor.edit(layer, call, step) for editor in session.editors)
            edits = tuple(edit for edit in found if edit is not None)
        shown = EditedCall(call, edits)
        weights: Tensor | None = None
        if edits:
            output = shown.output()
            output = output if spread is None else spread.narrow(output, int(query.shape[2]))
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


def _original(module: nn.Module, implementation: str) -> AttentionFunction:
    """The function the module would have called, looked up where its own file looks."""
    names = inspect.unwrap(type(module).forward).__globals__
    if implementation == "eager":
        for name in ("eager_attention_forward", "text_eager_attention_forward", "simple_eager_attention_forward"):
            if name in names:
                return names[name]  # type: ignore[no-any-return]
        raise ModelError(f"{type(module).__name__} has no eager attention function to call: load the model with sdpa.")
    function: AttentionFunction = names["ALL_ATTENTION_FUNCTIONS"][implementation]
    return function if implementation == "sdpa" else _under_own_name(function, module, implementation)


def _under_own_name(function: AttentionFunction, module: Any, implementation: str) -> AttentionFunction:
    """FlashAttention asks the configuration which version is meant, so it must find the name it knows there."""

    def call(*args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        lent = module.config._attn_implementation_internal
        module.config._attn_implementation_internal = implementation
        try:
            return function(*args, **options)
        finally:
            module.config._attn_implementation_internal = lent

    return call


Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], "tuple[tuple[Any, ...], dict[str, Any]] | None"]


def _beginner(session: _Session) -> Hook:
    """At the model's entry its inputs tell which step this is."""
    parameters = inspect.signature(inspect.unwrap(type(session.anatomy.model).forward)).parameters.items()
    names = [name for name, kind in parameters if name != "self" and kind.kind is kind.POSITIONAL_OR_KEYWORD]

    def begin(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if is_suspended(session.anatomy):
            return None
        session.step = session.waiting = None
        inputs = dict(zip(names, args, strict=False)) | kwargs
        session.waiting = step = session.counter.next(inputs)
        if not session.shorteners:
            return None
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


def _ender(session: _Session) -> Callable[[nn.Module, Any, Any], None]:
    def end(module: nn.Module, args: Any, output: Any) -> None:
        if is_suspended(session.anatomy):
            return
        step, session.step, session.waiting = session.step, None, None
        if step is not None:
            for reader in session.readers:
                reader.end(step)
            if session.dropper is not None:
                session.dropper.end(step)

    return end
