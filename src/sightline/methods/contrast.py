"""Contrast with a second pass: the model is run once more on a changed prompt, beside every step of `generate`.

    score(y) = (1 + w) log p(y | prompt) - w log p(y | changed prompt),    -inf where log p(y) < log(floor) + max log p

The second pass has a cache of its own, reordered with the beams, and costs one more forward pass a step. It runs the
model untouched: other methods and probes neither see nor change it. Scores are not normalised again (as in the public
code of both methods that use this); give `generate` `renormalize_logits=True` for beams scored by probability.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention import bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, SightlineError
from sightline.methods.base import Method, anatomy_and_layout
from sightline.methods.generating import Processor, cut_off, processed
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api import cache_from, cache_of, is_static, with_cache, without_encoder_outputs

_RECORDS = ("output_attentions", "output_hidden_states")
"""Options of the first pass alone."""


class Change(Protocol):
    """How the second pass differs from the first.

    One that needs hooks of its own has a context manager `acting()` as well, entered for each `generate`.
    """

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The forward's inputs on the prompt, one row a sample, from those of the first pass."""

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """The forward's inputs on one generated token a row, `repeats` rows a sample."""


def contrast(
    first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], weight: float, floor: float
) -> Float[Tensor, "rows vocabulary"]:
    """The scores above, from the logits of both passes (or their log-probabilities: a constant a row is no matter)."""
    given, other = first.log_softmax(-1), second.log_softmax(-1)
    return cut_off((1 + weight) * given - weight * other, given, floor)


@dataclass(frozen=True)
class ContrastMethod(Method):
    """Base: `change` says how the second pass differs, `combine` how its logits are set against the first's."""

    @property
    def has_contrast(self) -> bool:
        """Whether these settings need the second pass at all."""
        return True

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """How the second pass of one `generate`, which was given `given`, differs from the first.

        model: what `.on` was given, a `VLM` or a bare model.
        """
        raise NotImplementedError

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """The scores, from the logits of both passes; step: tokens generated before, from 0."""
        raise NotImplementedError

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside.

        Raises:
            InputError: for a prompt without an image.
            ModelError: for a model that lets an inner language model generate.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        if not self.has_contrast:
            yield
            return

        @contextmanager
        def begin(given: Mapping[str, Any]) -> Iterator[Processor]:
            change = self.change(anatomy, model, source, given)
            second = SecondPass(self.name, anatomy, given, change, self.combine)
            with getattr(change, "acting", nullcontext)(), Hooks(anatomy) as hooks:
                hooks.before(anatomy.model, second.record)
                yield second

        with processed(self.name, anatomy, begin):
            yield


@dataclass
class SecondPass:
    """The logits processor that follows one `generate`: repeats its forward passes on the changed prompt."""

    name: str
    anatomy: Anatomy
    given: Mapping[str, Any]
    change: Change
    combine: Callable[[Tensor, Tensor, int], Tensor]
    cache: Any = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    before: Tensor | None = None

    def record(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model: keeps what the first pass was given until its logits are processed."""
        cache = cache_of(kwargs)
        filled = 0 if cache is None else int(cache.get_seq_length(self.anatomy.attention_layers[0]))
        self.calls.append({**{name: value for name, value in kwargs.items() if name not in _RECORDS}, "filled": filled})

    def __call__(self, input_ids: Int[Tensor, "rows length"], scores: Tensor) -> Tensor:
        """Contrast the scores of all rows with those of the second pass."""
        if len(self.calls) != 1:
            raise InputError(
                f"{self.name} follows one forward pass a step: leave prefill_chunk_size and assistant models out."
            )
        inputs = self.calls.pop()
        repeats = len(input_ids) // len(self.given["input_ids"])
        logits = self._start(inputs, repeats) if not inputs.pop("filled") else self._step(inputs, input_ids, repeats)
        self.before = input_ids
        step = int(input_ids.shape[1]) - int(self.given["input_ids"].shape[1])
        return self.combine(scores, logits[:, -1].to(scores.device, scores.dtype), step)

    def _start(self, inputs: dict[str, Any], repeats: int) -> Tensor:
        if is_static(cache_of(inputs)):
            raise InputError(
                f"{self.name} keeps a growing cache of its own: call generate without a static cache_implementation."
            )
        if repeats > 1 and self.before is not None:
            raise InputError(f"{self.name} follows beams and several sequences by a cache: leave use_cache=False out.")
        # The rows of one sample are alike until tokens are chosen: one of them is enough.
        once = {name: _every(value, repeats, inputs["input_ids"]) for name, value in inputs.items()}
        if repeats > 1:
            # Patches don't tell their sample, so older releases repeat them in an order that can't be undone.
            images = tower_inputs(self.anatomy, self.given)
            once |= {name: value for name, value in images.items() if inputs.get(name) is not None}
        logits = self._run(self.change.at_start(with_cache(once, None, self.anatomy.model)))
        if repeats == 1:
            return logits
        order = torch.arange(len(logits), device=logits.device).repeat_interleave(repeats)
        if self.cache is not None:
            self.cache.reorder_cache(order)
        return logits[order]

    def _step(self, inputs: dict[str, Any], input_ids: Tensor, repeats: int) -> Tensor:
        if self.cache is None or self.before is None:
            raise InputError(f"{self.name} has to see the prompt: call generate without a filled cache.")
        order = _ancestors(self.before, input_ids, repeats)
        if order is not None:
            self.cache.reorder_cache(order)
        return self._run(self.change.at_step(with_cache(inputs, self.cache, self.anatomy.model), repeats))

    def _run(self, inputs: dict[str, Any]) -> Tensor:
        with bypassed(self.anatomy), torch.no_grad():
            output = self.anatomy.model(**inputs)
        self.cache = cache_from(output) if inputs.get("use_cache", True) else None
        return output.logits  # type: ignore[no-any-return]


def _every(value: Any, repeats: int, ids: Tensor) -> Any:
    """One row a sample of what has `repeats`; the batch is the axis before the positions, or the first."""
    if repeats == 1 or not isinstance(value, Tensor) or value.dim() == 0:
        return value
    axis = 1 if value.dim() == 3 and value.shape[1:] == ids.shape else 0
    if value.shape[axis] != len(ids):
        return value
    return value[(slice(None),) * axis + (slice(None, None, repeats),)].contiguous()


def _ancestors(before: Tensor, now: Tensor, repeats: int) -> Tensor | None:
    """[rows], which row of the step before each row goes on from; None where each goes on from itself.

    Beams tell it by their tokens: rows of one sample with the same tokens have the same keys and values, so that any
    of them will do.
    """
    if repeats == 1:
        return None
    old = before.reshape(-1, 1, repeats, before.shape[1])
    new = now[:, : before.shape[1]].reshape(-1, repeats, 1, before.shape[1])
    same = (old == new).all(-1)
    if bool(same.diagonal(dim1=1, dim2=2).all()):
        return None
    if not bool(same.any(-1).all()):
        raise SightlineError("A row of this step goes on from no row of the step before, so no cache fits it.")
    start = torch.arange(len(same), device=now.device)[:, None] * repeats
    return (same.int().argmax(-1) + start).reshape(-1)


def same_prompt(anatomy: Anatomy, given: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The first pass's inputs over again, with the images in the place of what was encoded ahead from them."""
    rest = {name: value for name, value in without_encoder_outputs(inputs).items() if value is not None}
    return rest | image_inputs(anatomy, given, rest)


def image_inputs(anatomy: Anatomy, given: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate` was given for the towers, which newer versions encode ahead and keep from the forward pass."""
    return {name: value for name, value in tower_inputs(anatomy, given).items() if present.get(name) is None}


def tower_inputs(anatomy: Anatomy, given: Mapping[str, Any]) -> dict[str, Tensor]:
    """The inputs of the towers as `generate` was given them, one part a sample."""
    known = inspect.signature(anatomy.model.forward).parameters
    shape = given["input_ids"].shape
    return {
        name: value
        for name, value in given.items()
        if name in known and isinstance(value, Tensor) and value.shape[:2] != shape
    }
