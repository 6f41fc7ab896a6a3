"""Both passes of a contrast as one batch, from the first generated token on, and the start that their prompts share.

The rows of the second pass stand behind those of the first: one forward, which reads the model's weights once, on one
cache, in which the shorter prompt is filled up on its left. What is attached to the model is shown the first rows alone
(`sightline.attention.ownership.OwnRows`), so that it sees no difference. `why_apart` is the one place that says when
both are run apart instead, which gives the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks, filled_hooks
from sightline.attention.ownership import OwnRows, set_own_rows
from sightline.memory import is_out_of_memory
from sightline.models.anatomy import Anatomy
from sightline.models.caches import growing_layers, set_output
from sightline.models.transformers_api.attention import implementation_name
from sightline.models.transformers_api.cache import cache_of, with_cache, without_cache

_TOGETHER: ContextVar[bool] = ContextVar("sightline_passes_together", default=True)


@contextmanager
def passes_apart() -> Iterator[None]:
    """Inside, second passes are whole forwards of their own: more time, less memory where prompts differ in length."""
    token = _TOGETHER.set(False)
    try:
        yield
    finally:
        _TOGETHER.reset(token)


def why_apart(
    anatomy: Anatomy, hooks: Hooks, first: Mapping[str, Any], cache: Any, images: Mapping[str, Tensor]
) -> str | None:
    """Why the two passes of a contrast can't be one batch; None where they can.

    hooks: the contrast's own. first: inputs of the first pass on the first generated token. cache: the second pass's.
    images: what `generate` was given for the towers; what of it is no picture is not read while no tower runs.
    """
    model: Any = anatomy.model
    ids = first["input_ids"]
    beside = {
        name
        for name, value in without_cache(first).items()
        if isinstance(value, Tensor)
        and name not in ("position_ids", "attention_mask")
        and value.shape != ids.shape
        and (name not in images or value.is_floating_point())
    }
    if not _TOGETHER.get():
        return "`passes_apart` is entered"
    if not is_alone(anatomy, hooks):
        return "something else that is attached looks at all rows of a batch"
    if ids.shape[1] > 1 or not isinstance(first.get("position_ids"), Tensor):
        return "no place of the token is given"
    if beside or any(map(first.get, RECORDS)):
        return "a step is given, or gives back, more than tokens and logits"
    if not (first.get("attention_mask") is None or first["attention_mask"].dim() == 2):
        return "masks are made ahead"
    if implementation_name(model.config) not in ("sdpa", "eager"):
        return "only sdpa and eager attention are cut by rows"
    if not (growing_layers(cache_of(first), model) and growing_layers(cache, model)):
        return "a cache is of fixed size, slides or keeps a state"
    return None


RECORDS = ("output_attentions", "output_hidden_states")
"""Options of the first pass alone."""


def is_alone(anatomy: Anatomy, hooks: Hooks) -> bool:
    """Whether all else that this thread has on the model keeps to a pass's own rows, and both may be put together."""
    return _TOGETHER.get() and all(each.keeps_rows for each in filled_hooks(anatomy) if each is not hooks)


@dataclass
class SideBySide:
    """Two caches as one, and what the next forward is given.

    own: the cache that `generate` holds; it counts positions, and has its keys and values back at the end. both: the
    second pass's, which takes those of the first in. count: rows of each. lengths: positions of each before they were
    joined. moved: how much further on a token of the second pass stands. mask: [both rows, positions], or None where
    neither has padding. logits: of the second pass's rows in the last forward.
    """

    anatomy: Anatomy
    own: Any
    both: Any
    count: int
    lengths: tuple[int, int]
    moved: Tensor | int = 0
    mask: Tensor | None = None
    rows: OwnRows | None = None
    logits: Tensor | None = None

    @classmethod
    def of(cls, anatomy: Anatomy, own: Any, both: Any) -> SideBySide | None:
        """Of two filled caches; None where memory is short."""
        lengths = int(own.get_seq_length()), int(both.get_seq_length())
        joined = cls(anatomy, own, both, len(own.layers[0].keys), lengths)
        try:
            joined._join()
        except Exception as error:
            joined.split()
            if not is_out_of_memory(error):
                raise
            return None
        return joined

    @property
    def pads(self) -> tuple[int, int]:
        """Keys before those of the rows of each pass that only fill up."""
        longest = max(self.lengths)
        return longest - self.lengths[0], longest - self.lengths[1]

    def begin(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
        """Take on what the inputs of both passes on the first generated token say of padding and places."""
        masks = [each.get("attention_mask") for each in (first, second)]
        is_open = masks[0] is None or bool(masks[0].all())
        self.rows = OwnRows(self.count, self.pads[0], is_open)
        self.moved = second["position_ids"] - first["position_ids"]
        if any(self.pads) or any(mask is not None for mask in masks):
            rows = [
                nn.functional.pad(torch.ones_like(first["input_ids"]), (length, 0), value=1) if mask is None else mask
                for mask, length in zip(masks, self.lengths, strict=True)
            ]
            filled = [nn.functional.pad(mask.long(), (pad, 0)) for mask, pad in zip(rows, self.pads, strict=True)]
            self.mask = torch.cat(filled)[:, :-1]

    def before(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The forward's inputs for both, from those of the first."""
        ids, place, moved = inputs["input_ids"], inputs["position_ids"], self.moved
        changed: dict[str, Any] = {
            name: torch.cat([value, value])
            for name, value in inputs.items()
            if isinstance(value, Tensor) and value.shape == ids.shape
        }
        changed["position_ids"] = torch.cat([place + 0 * moved, place + moved], -2)
        if self.mask is not None:
            self.mask = changed["attention_mask"] = nn.functional.pad(self.mask, (0, 1), value=1)
        set_own_rows(self.anatomy, self.rows)
        return with_cache({**inputs, **changed}, self.both, self.anatomy.model)

    def after(self, output: Any) -> None:
        """Leave the first rows in what the forward gave back, and keep the logits of the second."""
        set_own_rows(self.anatomy, None)
        if output is None:
            return
        self.logits = output.logits[self.count :]
        self._note_length()
        set_output(output, output.logits[: self.count], self.own)

    def split(self) -> None:
        """Give both caches their own keys and values back."""
        set_own_rows(self.anatomy, None)
        for own, both in zip(self.own.layers, self.both.layers, strict=True):
            if len(both.keys) > self.count:
                own.keys, both.keys = self._parts(both.keys)
                own.values, both.values = self._parts(both.values)

    def _join(self) -> None:
        for own, both in zip(self.own.layers, self.both.layers, strict=True):
            keys, values = self._together(own.keys, both.keys), self._together(own.values, both.values)
            both.keys, both.values = keys, values
            own.keys, own.values = (kept.new_empty((*kept.shape[:2], 0, kept.shape[3])) for kept in (keys, values))
        self._note_length()

    def _together(self, *kept: Tensor) -> Tensor:
        return torch.cat([nn.functional.pad(each, (0, 0, pad, 0)) for each, pad in zip(kept, self.pads, strict=True)])

    def _parts(self, joined: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.pads
        return joined[: self.count, :, first:], joined[self.count :, :, second:]

    def _note_length(self) -> None:
        """`generate` asks its cache for no more than the number of positions, and that of its first layer."""
        self.own.layers[0].keys, _ = self._parts(self.both.layers[0].keys)


class SharedStart:
    """How much of a second pass's prompt has the keys and values of the first's.

    Looks at one attention call of the first pass over the prompt: in a model whose start sees what comes behind it
    (as with prefixes that see both ways), nothing is shared.
    """

    def __init__(self, anatomy: Anatomy) -> None:
        self._model = anatomy.model
        self._attention: Any = anatomy.attentions[anatomy.attention_layers[0]]
        self._hooks = Hooks(anatomy, keeps_rows=True)
        self._call: AttentionCall | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the first call is kept until `count` has looked at it."""
        with self._hooks:
            self._hooks.intercept([self._attention], by_call(self._keep))
            yield

    def _keep(self, call: AttentionCall) -> None:
        self._call = call

    def count(self, first: Mapping[str, Any], second: Mapping[str, Any], least: int | None) -> int:
        """Positions of the second prompt that the first begins with; 0 for fewer than `least`, or without it."""
        self._hooks.close()
        call, self._call = self._call, None
        count = 0 if least is None else _same_start(first, second)
        layers = growing_layers(cache_of(first), self._model)
        is_whole = bool(layers) and layers[0].get_seq_length() == first["input_ids"].shape[1]
        if call is None or least is None or count < max(least, 1) or not is_whole:
            return 0
        rows = torch.arange(count, device=call.query.device)
        return 0 if bool(call.visible(rows)[..., count:].any()) else count


def _same_start(first: Mapping[str, Any], second: Mapping[str, Any]) -> int:
    """Leading positions at which both prompts have the same ids, types, masks and places; at least one is left out."""
    lengths = [int(each["input_ids"].shape[1]) for each in (first, second)]
    if second.get("position_ids") is None:
        return 0
    shared = min(lengths)
    same = torch.ones(shared, dtype=torch.bool, device=first["input_ids"].device)
    for name, value in second.items():
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[-1] == lengths[1]:
            other = first.get(name)
            if other is None and name == "attention_mask":
                other = torch.ones_like(first["input_ids"])
            if not isinstance(other, Tensor) or other.shape[-1] != lengths[0]:
                return 0
            same &= (value[..., :shared] == other[..., :shared]).reshape(-1, shared).all(0)
    return min(int(same.long().cumprod(0).sum()), lengths[1] - 1)


def behind(inputs: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A forward's inputs of a prompt less its first positions, which its cache holds."""
    length = int(inputs["input_ids"].shape[1])
    return {
        name: value[..., count:]
        if isinstance(value, Tensor) and value.dim() > 1 and value.shape[-1] == length and name != "attention_mask"
        else value
        for name, value in inputs.items()
    }
