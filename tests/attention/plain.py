"""The plain twin of the attention core: the same weights run on eager attention, every layer's whole square kept."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from sightline.anatomy import Anatomy
from sightline.attention import EditedCall, Step


def eager_twin(model: Any) -> Any:
    """The same model on eager attention, built once a model."""
    twin = model.__dict__.get("_eager_twin")
    if twin is None:
        twin = copy.deepcopy(model)
        twin.set_attn_implementation("eager")
        model.__dict__["_eager_twin"] = twin
    return twin


@torch.no_grad()
def plain_attentions(model: Any, anatomy: Anatomy, inputs: dict[str, Any]) -> dict[int, Tensor]:
    """By layer: [batch, heads, queries, keys] of one forward pass."""
    found = eager_twin(model)(**inputs, output_attentions=True).attentions
    return _by_layer(anatomy, found)


@torch.no_grad()
def plain_generation(model: Any, anatomy: Anatomy, inputs: dict[str, Any], count: int) -> list[dict[int, Tensor]]:
    """By step and layer: [batch, heads, queries, keys] of a greedy generation of `count` tokens."""
    found = eager_twin(model).generate(
        **inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False, output_attentions=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    return [_by_layer(anatomy, step) for step in found.attentions]


def _by_layer(anatomy: Anatomy, found: Any) -> dict[int, Tensor]:
    kept = [attention for attention in found if attention is not None]
    layers = anatomy.attention_layers
    if len(kept) == len(anatomy.layers) != len(layers):
        kept = [kept[layer] for layer in layers]
    assert len(kept) == len(layers)
    return dict(zip(layers, kept, strict=True))


class Rows:
    """A reader that keeps all weights of every pass, by step and layer."""

    def __init__(self) -> None:
        self.steps: list[dict[int, Tensor]] = []
        self.calls: list[dict[int, EditedCall]] = []
        self.seen: list[Step] = []

    def begin(self, step: Step) -> None:
        self.steps.append({})
        self.calls.append({})
        self.seen.append(step)

    def read(self, layer: int, attention: EditedCall, step: Step) -> None:
        self.steps[-1][layer] = attention.row_weights(torch.arange(attention.call.queries))
        self.calls[-1][layer] = attention

    def end(self, step: Step) -> None:
        pass
