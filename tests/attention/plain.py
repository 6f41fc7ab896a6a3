"""The plain twin of the attention core: the same weights run on eager attention, every layer's whole square kept."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor

from families import PADDING
from sightline.attention import AttentionCall, EditedCall, ForwardPass

TOLERANCE = 1e-5
GENERATE = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}


def real_rows(modality: list[list[int]]) -> Tensor:
    """[batch, positions]: where there is no padding."""
    return torch.tensor(modality) != PADDING


def eager_twin(model: Any) -> Any:
    """The same model on eager attention, built once."""
    twin = model.__dict__.get("_eager_twin")
    if twin is None:
        twin = copy.deepcopy(model)
        twin.set_attn_implementation("eager")
        model.__dict__["_eager_twin"] = twin
    return twin


class Masks:
    """A reader that keeps the masks which the model's implementation makes, by step and layer."""

    def __init__(self) -> None:
        self.steps: list[dict[int, Any]] = []

    def begin(self, step: ForwardPass) -> None:
        self.steps.append({})

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        self.steps[-1][layer] = attention.call.mask

    def end(self, step: ForwardPass) -> None:
        pass


def plain_weights(call: AttentionCall, eager_mask: Tensor | None) -> Tensor:
    """[batch, heads, queries, keys] by the eager function of the module's own file, with the mask eager was given.

    From the very queries and keys of the call: a whole eager run would differ by what later layers make of 1e-7.
    """
    names = inspect.unwrap(type(call.module).forward).__globals__
    found = call.original if call.implementation == "eager" else names["eager_attention_forward"]
    with torch.no_grad():
        return found(call.module, call.query, call.key, call.value, eager_mask, **call.options)[1]


class Rows:
    """A reader that keeps all weights of every pass, by step and layer."""

    def __init__(self) -> None:
        self.steps: list[dict[int, Tensor]] = []
        self.calls: list[dict[int, EditedCall]] = []
        self.seen: list[ForwardPass] = []

    def begin(self, step: ForwardPass) -> None:
        self.steps.append({})
        self.calls.append({})
        self.seen.append(step)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        self.steps[-1][layer] = attention.row_weights(torch.arange(attention.call.queries))
        self.calls[-1][layer] = attention

    def end(self, step: ForwardPass) -> None:
        pass
