"""Readers, editors and pruners that act side by side on one model's passes, for as long as a `with` lasts.

The model's own kernel is still what computes its output, with the arguments that it would have got, so a model that is
only read gives bit-identical logits.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

from torch import nn

from sightline.attention.attending import Attending, decoder_attentions
from sightline.attention.hooks import BeforeHook, Hooks
from sightline.attention.inner import find_inner, joined_inputs
from sightline.attention.ownership import own_rows
from sightline.attention.passes import ForwardPass, LayoutSource, PassTracker
from sightline.attention.roles import Editor, LayerPruner, PromptPruner, Reader
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.entered import note_installed
from sightline.models.transformers_api.generation import assistance, given_to


@dataclass
class _Session:
    """What one thread has attached to one model at present, from the first `with` entered to the last one left.

    attending: what is done at the attention of each layer.
    waiting: a pass that has entered the model and not yet its decoder.
    prompt: what `generate` was given, in a model that lets an inner language model generate.
    users: how many `with` are open.
    """

    anatomy: Anatomy
    hooks: Hooks
    counter: PassTracker
    attending: Attending
    shorteners: list[PromptPruner] = field(default_factory=list)
    waiting: ForwardPass | None = None
    prompt: Mapping[str, Any] | None = None
    users: int = 0


_SESSIONS: dict[tuple[int, int], _Session] = {}
"""By thread and id of the model; empty whenever no `with` is open."""


@contextmanager
def attach(
    anatomy: Anatomy,
    *,
    reader: Reader | None = None,
    editor: Editor | None = None,
    shortener: PromptPruner | None = None,
    dropper: LayerPruner | None = None,
    layout: LayoutSource | None = None,
    layers: Collection[int] | None = None,
) -> Iterator[None]:
    """Inside, `reader` sees and `editor` changes the attention of the model's decoder layers.

    anatomy: of the model. shortener: leaves positions of the prompt out; readers, editors and their layouts then know
    only the others. dropper: drops positions between layers; there can be but one. layout: a `TokenLayout` for all
    that is run inside, or a function from the forward's inputs to one; by default it is derived from the inputs.
    layers: those whose attention the reader or editor is for, by default all; the others keep their own function.
    Several may be open at once on one model: editors act in the order of entry, and every reader sees what the model
    then uses. All act on the passes of the thread that entered them.

    Raises:
        InputError: for a second dropper.
        ModelError: when the model's attention does not go through the interface, in which case nothing was changed.
    """
    key = (get_ident(), id(anatomy.model))
    session = _SESSIONS.get(key)
    if session is not None and dropper is not None and session.attending.dropper is not None:
        raise InputError("Two methods that drop tokens between layers can't act together: enter one of them.")
    if session is None:
        session = _installed(anatomy)
        _SESSIONS[key] = session
    if editor is not None or shortener is not None or dropper is not None:
        note_installed(id(anatomy.model))  # the hooks may be there already
    session.users += 1
    previous_layout = session.counter.source
    if layout is not None:
        session.counter.source = layout
    if shortener is not None:
        session.shorteners.append(shortener)
    attending = session.attending
    hooks = session.hooks
    hooks.keeps_rows = not session.shorteners and attending.dropper is None and dropper is None
    try:
        attending.add(reader, editor, dropper, layers)
        attending.intercept(hooks)
        yield
    finally:
        attending.remove(reader, editor, dropper)
        if shortener is not None:
            session.shorteners.remove(shortener)
        hooks.keeps_rows = not session.shorteners and attending.dropper is None
        session.counter.source = previous_layout
        session.users -= 1
        if not session.users:
            del _SESSIONS[key]
            hooks.close()


def spares_start(anatomy: Anatomy) -> bool:
    """Whether nothing that this thread has attached edits rows up to a prompt's last image token."""
    session = _SESSIONS.get((get_ident(), id(anatomy.model)))
    return session is None or session.attending.spares_start


def _installed(anatomy: Anatomy) -> _Session:
    attending = Attending(decoder_attentions(anatomy))
    session = _Session(anatomy, Hooks(anatomy), PassTracker(anatomy), attending)
    hooks, inner = session.hooks, find_inner(anatomy)
    try:
        hooks.before(anatomy.model, _beginner(session))
        hooks.before(anatomy.decoder, _starter(session))
        hooks.after(anatomy.model, _ender(session), always=True)
        if inner is not None:
            hooks.before(inner, _beginner(session, inner))
            hooks.after(inner, _ender(session, is_inner=True), always=True)
        if hasattr(anatomy.model, "generate"):
            hooks.shadow(anatomy.model, "generate", functools.partial(_generating, session))
    except BaseException:
        hooks.close()
        raise
    return session


def _generating(session: _Session, generate: Callable[..., Any]) -> Callable[..., Any]:
    """`generate`, with its passes known to belong to one prompt."""

    @functools.wraps(generate)
    def generating(*args: Any, **kwargs: Any) -> Any:
        given = given_to(generate, args, kwargs)
        helper = assistance(session.anatomy.model, given)
        if helper is not None:
            raise InputError(
                f"Which tokens of assisted decoding ({helper}) are kept is not known while it runs, so that nothing is "
                "read or changed rightly: leave assistant_model, prompt_lookup_num_tokens and their likes out."
            )
        if session.shorteners and given.get("prefill_chunk_size"):
            raise InputError(
                "A method that shortens the prompt needs the whole of it in one pass: leave prefill_chunk_size out."
            )
        before, session.prompt = session.prompt, given if find_inner(session.anatomy) is not None else None
        try:
            with session.counter.one_prompt():
                return generate(*args, **kwargs)
        finally:
            session.prompt = before

    return generating


def _beginner(session: _Session, inner: nn.Module | None = None) -> BeforeHook:
    """At the model's entry its inputs say which step this is; at an inner model's, when `generate` runs that alone."""
    entered = session.anatomy.model if inner is None else inner
    parameters = inspect.signature(inspect.unwrap(type(entered).forward)).parameters.items()
    names = [name for name, kind in parameters if name != "self" and kind.kind is kind.POSITIONAL_OR_KEYWORD]

    def begin(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if inner is not None and session.prompt is None:
            return None
        session.attending.step = session.waiting = None
        inputs = dict(zip(names, args, strict=False)) | kwargs if args else kwargs
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


def _starter(session: _Session) -> BeforeHook:
    """At the decoder's entry the prompt has its final length, and readers and editors get to know it."""

    def start(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        step, session.waiting = session.waiting, None
        if step is None:
            return None
        for shortener in session.shorteners:
            step, kwargs = shortener.at_decoder(step, kwargs)
            session.counter.layout = step.layout
            session.counter.reached = max(session.counter.reached, step.offset + step.length)
        session.attending.begin(step, own_rows(session.anatomy))
        return args, kwargs

    return start


def _ender(session: _Session, is_inner: bool = False) -> Callable[[nn.Module, Any, Any], None]:
    def end(module: nn.Module, args: Any, output: Any) -> None:
        if is_inner and session.prompt is None:
            return
        step, session.waiting = session.attending.step, None
        if step is None:
            return
        session.counter.note(output)
        unseen = session.attending.end()
        if output is not None and unseen:
            raise ModelError(
                f"{type(session.anatomy.model).__name__} computed the attention of layer {min(unseen)} where it can't "
                "be read: load the model with sdpa or eager attention."
            )

    return end
