"""The second pass of a contrast: the model on a changed prompt, beside every step of one `generate`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Int
from torch import Tensor

from sightline.attention import bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.session import spares_start
from sightline.errors import InputError, SightlineError
from sightline.methods.side_by_side import RECORDS, SharedStart, SideBySide, behind, is_alone, why_apart
from sightline.models.anatomy import Anatomy
from sightline.models.caches import started_cache
from sightline.models.transformers_api.cache import (
    cache_from,
    cache_of,
    has_encoder_outputs,
    is_static,
    with_cache,
    without_encoder_outputs,
)


class Change(Protocol):
    """How the second pass differs from the first.

    One that needs hooks of its own has a context manager `acting()` as well, entered for each `generate`. One that
    changes words alone has a `least_shared`: with so many first positions in common, the rest has no image.
    """

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The forward's inputs on the prompt, one row a sample, from those of the first pass."""

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """The forward's inputs on one generated token a row, `repeats` rows a sample."""


@dataclass
class SecondPass:
    """The logits processor that follows one `generate`: the model on the changed prompt, beside its forward passes.

    joined: both passes as one batch, from the first generated token on, or the reason why they are run apart. ids: the
    tokens of the step before.
    """

    name: str
    anatomy: Anatomy
    given: Mapping[str, Any]
    change: Change
    combine: Callable[[Tensor, Tensor, int], Tensor]
    cache: Any = None
    joined: SideBySide | str | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        self._hooks, self._shared = Hooks(self.anatomy), SharedStart(self.anatomy)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Inside, the `generate` runs."""
        try:
            with self._hooks, self._shared.watching():
                # As `generate` gives them: what prunes the first pass changes its inputs, and not the second's.
                self._hooks.before(self.anatomy.model, self.note, prepend=True)
                self._hooks.before(self.anatomy.model, self.before)
                self._hooks.after(self.anatomy.model, self.after, prepend=True, always=True)
                yield
        finally:
            if isinstance(self.joined, SideBySide):
                self.joined.split()

    def note(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the model: keeps what the first pass is given."""
        cache = cache_of(kwargs)
        filled = 0 if cache is None else int(cache.get_seq_length(self.anatomy.attention_layers[0]))
        self.calls.append({**{name: value for name, value in kwargs.items() if name not in RECORDS}, "filled": filled})

    def before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook of the model: puts the second pass beside the first."""
        if not self.calls[-1]["filled"] or self.cache is None:
            return None
        if self.joined is None:
            self.joined = self._joined(kwargs)
        return (args, self.joined.before(kwargs)) if isinstance(self.joined, SideBySide) else None

    def after(self, module: Any, args: Any, output: Any) -> None:
        """Forward hook of the model, also where it raised."""
        if isinstance(self.joined, SideBySide):
            self.joined.after(output)

    def __call__(self, input_ids: Int[Tensor, "rows length"], scores: Tensor) -> Tensor:
        """Contrast the scores of all rows with those of the second pass."""
        if len(self.calls) != 1:
            raise InputError(
                f"{self.name} follows one forward pass a word, and this `generate` runs the model otherwise: leave out "
                "what is not plain greedy search, sampling or beams."
            )
        inputs = self.calls.pop()
        repeats = len(input_ids) // len(self.given["input_ids"])
        if not inputs.pop("filled"):
            ids = inputs.get("input_ids")
            if self.ids is not None and isinstance(ids, Tensor) and ids.shape[1] < input_ids.shape[1]:
                kind = type(self.anatomy.model).__name__
                raise InputError(f"{self.name} follows an answer by the cache, and {kind} hands it on unseen.")
            logits = self._start(inputs, repeats)
        elif isinstance(self.joined, SideBySide) and self.joined.logits is not None:
            logits = self.joined.logits
        else:
            logits = self._step(inputs, input_ids, repeats)
        self.ids = input_ids
        step = int(input_ids.shape[1]) - int(self.given["input_ids"].shape[1])
        return self.combine(scores, logits[:, -1].to(scores.device, scores.dtype), step)

    def _joined(self, inputs: dict[str, Any]) -> SideBySide | str:
        """Both passes as one batch, or why they are not; decided at the first generated token."""
        repeats = len(inputs["input_ids"]) // len(self.given["input_ids"])
        if repeats > 1:
            return "beams and several sequences of a prompt change places"
        reason = why_apart(self.anatomy, self._hooks, inputs, self.cache, tower_inputs(self.anatomy, self.given))
        joined = None if reason else SideBySide.of(self.anatomy, cache_of(inputs), self.cache)
        if joined is None:
            return reason or "memory is short"
        joined.begin(inputs, self.change.at_step(with_cache(inputs, self.cache, self.anatomy.model), 1))
        return joined

    def _start(self, inputs: dict[str, Any], repeats: int) -> Tensor:
        if is_static(cache_of(inputs)):
            raise InputError(
                f"{self.name} keeps a growing cache of its own: call generate without a static cache_implementation."
            )
        if repeats > 1 and self.ids is not None:
            raise InputError(f"{self.name} follows beams and several sequences by a cache: leave use_cache=False out.")
        # The rows of one sample are alike until tokens are chosen: one of them is enough.
        once = {name: _every(value, repeats, inputs["input_ids"]) for name, value in inputs.items()}
        is_alone = self._is_alone()
        if repeats > 1:
            # Patches don't tell their sample, so older releases repeat them in an order that can't be undone.
            images = tower_inputs(self.anatomy, self.given)
            once |= {name: value for name, value in images.items() if inputs.get(name) is not None}
        if repeats > 1 or not is_alone:
            once = without_encoder_outputs(once)
        prompt = self.change.at_start(with_cache(once, None, self.anatomy.model))
        logits = self._run(self._behind_start(once, prompt, repeats) if is_alone else prompt)
        if repeats == 1:
            return logits
        order = torch.arange(len(logits), device=logits.device).repeat_interleave(repeats)
        if self.cache is not None:
            self.cache.reorder_cache(order)
        return logits[order]

    def _is_alone(self) -> bool:
        """Whether the first pass computed a prompt's start, and its image's features, as the second would."""
        return is_alone(self.anatomy, self._hooks) and spares_start(self.anatomy)

    def _behind_start(self, first: dict[str, Any], second: dict[str, Any], repeats: int) -> dict[str, Any]:
        """The second prompt, less what it shares with the first and with it all images."""
        count = self._shared.count(first, second, getattr(self.change, "least_shared", None))
        if not count:
            return second
        images = tower_inputs(self.anatomy, self.given)
        rest = {name: value for name, value in without_encoder_outputs(second).items() if name not in images}
        return with_cache(behind(rest, count), started_cache(cache_of(first), count, repeats), self.anatomy.model)

    def _step(self, inputs: dict[str, Any], input_ids: Tensor, repeats: int) -> Tensor:
        if self.cache is None and self.ids is not None:
            kind = type(self.anatomy.model).__name__
            raise InputError(f"{self.name} follows an answer by a cache of its own, and {kind} gives none back.")
        if self.cache is None or self.ids is None:
            raise InputError(f"{self.name} has to see the prompt: call generate without a filled cache.")
        order = _ancestors(self.ids, input_ids, repeats)
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

    Beams show it by their tokens: rows of one sample with the same tokens have the same keys and values, so that any
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
    """The first pass's inputs over again: what was encoded ahead from the images, or else the images."""
    rest = {name: value for name, value in inputs.items() if value is not None}
    return rest if has_encoder_outputs(rest) else rest | image_inputs(anatomy, given, rest)


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
