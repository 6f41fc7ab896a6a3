"""Acts on the scores of every step of `generate`, whatever way of decoding it uses.

`generate` is shadowed on one very model and nowhere else, and uncovered on leaving: each call of it is given one more
logits processor, made for that call, before all others: the library's own (penalties, `min_new_tokens`), the caller's,
temperature, top-k and top-p. A penalty is so taken once, of what the method makes of the logits. Beam search hands
log-probabilities over, which differ from logits by a constant a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention.hooks import Hooks
from sightline.attention.inner import find_inner
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.generation import (
    PROCESSOR_MAKER,
    LogitsProcessorList,
    assistance,
    given_to,
    option_of,
    placed_first,
)

Processor = Callable[[Int[Tensor, "rows length"], Tensor], Tensor]
"""From the tokens so far and the step's scores, [rows, vocabulary], to its new scores."""

Begin = Callable[[Mapping[str, Any]], AbstractContextManager[Processor]]
"""From what `generate` was given to the processor of that call, inside which the call runs."""


_RUNNING: ContextVar[tuple[tuple[str, bool], ...]] = ContextVar("sightline_methods_running", default=())
"""The methods inside whose `generate` this runs, and whether each is a decoding loop of its own."""


@contextmanager
def running(name: str, is_loop: bool = False) -> Iterator[None]:
    """Inside, a `generate` runs whose passes a method follows, or whose loop it is.

    Raises:
        InputError: for a loop beside another, or beside what follows one pass a word.
    """
    for other, other_loops in _RUNNING.get():
        if is_loop and other_loops:
            raise InputError(f"{name} is entered twice, and an answer has one search: enter it once.")
        if is_loop != other_loops:
            loop, step = (name, other) if is_loop else (other, name)
            raise InputError(
                f"{loop} and {step} can't act together: {loop} tries several words of several beams in a pass, and "
                f"{step} follows one pass a word: enter one of them."
            )
    token = _RUNNING.set((*_RUNNING.get(), (name, is_loop)))
    try:
        yield
    finally:
        _RUNNING.reset(token)


def require_steps(name: str, anatomy: Anatomy, given: Mapping[str, Any]) -> None:
    """InputError for the option with which words do not come one by one, from passes behind one whole prompt."""
    model = anatomy.model
    helper, scale = assistance(model, given), option_of(model, given, "guidance_scale")
    if helper is not None:
        raise InputError(f"{name} acts on one word after the other, and {helper} drafts several: leave {helper} out.")
    if scale is not None and scale != 1:
        raise InputError(
            f"{name} acts on one word after the other, and guidance_scale runs a second prompt beside them: leave "
            "guidance_scale out."
        )
    chunk = option_of(model, given, "prefill_chunk_size")
    if chunk and chunk < int(given["input_ids"].shape[1]):
        raise InputError(f"{name} needs the whole prompt in one pass: leave prefill_chunk_size out.")


@contextmanager
def processed(name: str, anatomy: Anatomy, begin: Begin, follows: bool = True) -> Iterator[None]:
    """Inside, every `generate` of the model has its scores changed by the processor that `begin` makes for it.

    follows: the processor counts on one forward pass a word.

    Raises:
        ModelError: for a model that lets an inner language model generate.
    """
    model: Any = anatomy.model
    if find_inner(anatomy) is not None:
        kind = type(model).__name__
        raise ModelError(f"{name} can't follow {kind}, which lets an inner language model generate.")

    def steered(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Any:
            options = given_to(original, args, kwargs)
            first = options.get("inputs")
            given = options if first is None else {**options, "input_ids": first}
            if given.get("input_ids") is None:
                raise InputError(
                    f"{name} needs the prompt's input_ids: give generate the inputs that a processor makes."
                )
            if follows:
                require_steps(name, anatomy, given)
            around = running(name) if follows else nullcontext()
            with around, begin(given) as processor, Hooks(anatomy, keeps_rows=True) as making:
                making.shadow(model, PROCESSOR_MAKER, lambda make: placed_first(make, processor))
                processors = LogitsProcessorList([processor, *(options.get("logits_processor") or ())])
                return original(**{**options, "logits_processor": processors})

        return generate

    with Hooks(anatomy, keeps_rows=True) as hooks:
        hooks.shadow(model, "generate", steered)
        yield


def cut_off(
    scores: Float[Tensor, "rows vocabulary"], logits: Float[Tensor, "rows vocabulary"], floor: float
) -> Float[Tensor, "rows vocabulary"]:
    """The scores, -inf for tokens whose probability by `logits` is below `floor` times the likeliest one's."""
    if floor <= 0:
        return scores
    return scores.masked_fill(logits < math.log(floor) + logits.amax(-1, keepdim=True), -math.inf)


def check_share(name: str, **values: float) -> None:
    """InputError for a field that is no share from 0 to 1."""
    for field, value in values.items():
        if not 0 <= value <= 1:
            raise InputError(f"{field} is {value} in {name}: give a share from 0 to 1.")


def check_least(name: str, least: float, **values: float) -> None:
    """InputError for a field below `least`, or without end."""
    for field, value in values.items():
        if not least <= value < math.inf:
            raise InputError(f"{field} is {value} in {name}: give {least:g} or more.")
