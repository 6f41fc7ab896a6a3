"""Cuts inside the vision tower: patches are hidden from the attention of one of its layers, for every other patch.

Beside the effect on the answer the layer's own output shows how much its patches read from the hidden ones: layers
before the cut are untouched, so one pass gives both. The keys are hidden exactly, whatever the tower's kernel; only the
cut layers leave that kernel. Cost: one whole pass of the model a layer and source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention import Block, Edit, EditedCall
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.errors import InputError, ModelError
from sightline.knockout.logits import answer_of, effect_maps, effect_rows, row_logits
from sightline.knockout.tower_patches import find_others, find_patches, patch_sources
from sightline.knockout.vision import AnswerEffects
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import has_windows, image_tower, tower_layers
from sightline.models.layout import TokenLayout


@dataclass
class Cutting:
    """Hides tower tokens while it is lent. hidden: by layer, the numbers of the tokens hidden there."""

    layers: dict[int, int]
    hidden: dict[int, Tensor] = field(default_factory=dict)
    sizes: dict[int, list[int]] = field(default_factory=dict)
    """By layer, the tokens of each crop or image seen so far in this pass."""

    def begin(self) -> None:
        """A pass starts."""
        self.sizes = {}

    def mask(self, layer: int, call: AttentionCall) -> Tensor | None:
        """[batch, 1, 1, keys], True at the keys to be hidden in this call; None where there are none."""
        batch, keys = int(call.key.shape[0]), call.keys
        seen = self.sizes.setdefault(layer, [])
        start = sum(seen)
        seen.extend([keys] * batch)
        hidden = self.hidden.get(layer)
        if hidden is None:
            return None
        marks = torch.zeros(batch * keys, dtype=torch.bool)
        mine = hidden[(hidden >= start) & (hidden < start + batch * keys)] - start
        if not len(mine):
            return None
        marks[mine] = True
        return marks.reshape(batch, 1, 1, keys).to(call.key.device)

    def attend(self, call: AttentionCall) -> Tensor | None:
        """The tower's attention without the hidden tokens."""
        hidden = self.mask(self.layers[id(call.module)], call)
        if hidden is None:
            return None
        edit = Edit(torch.arange(call.queries, device=call.query.device), scores=_hide(hidden))
        return EditedCall(call, (edit,)).output()


@contextmanager
def cutting(anatomy: Anatomy) -> Iterator[Cutting]:
    """Inside, the tower's attention can be cut; on leaving, everything is as it was, also after an exception.

    Raises:
        ModelError: for a model without a vision tower, one whose attention can't be reached, or one with windows.
    """
    tower, kind = image_tower(anatomy), type(anatomy.model).__name__
    if tower is None:
        raise ModelError(
            f"{kind} has no vision tower to cut in: use a vision-language model, or the modes local and causal."
        )
    if has_windows(tower):
        raise ModelError(
            f"The vision tower of {kind} looks through windows and orders its patches by them: use the mode vision."
        )
    stack = tower_layers(tower)
    if not stack:
        raise ModelError(
            f"The vision tower of {kind} computes attention of its own and can't be cut: use the mode vision."
        )
    state = Cutting({id(attention): layer for layer, (_, attention) in enumerate(stack)})
    with Hooks(anatomy, in_bypassed=True) as hooks:
        hooks.before(tower, lambda *_: state.begin())
        hooks.intercept([attention for _, attention in stack], by_call(state.attend))
        yield state


def _hide(hidden: Tensor) -> Callable[[Block], Tensor]:
    return lambda block: block.values.masked_fill(hidden, -torch.inf)


def tower_effects(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layout: TokenLayout,
    side: int = 1,
    layers: Sequence[int] | None = None,
    window: int = 1,
    target: str | int = "predicted",
    row: int = -1,
    on_pass: Callable[[int, int], None] | None = None,
) -> AnswerEffects:
    """Hides each block of side x side patches at each layer of the tower; "l2" and "cosine" are of the layer's output.

    These two are means over the tower's tokens, all but the hidden ones; with a window above 1 they are left out, for
    the layer's input has then changed as well. layers: of the tower, from 0; by default all. window: so many layers
    around each are cut. on_pass: gets passes done and passes in all.

    Raises:
        InputError: for a layer out of range, several prompts, a prompt without an image, and blocks without a grid.
    """
    ids = inputs.get("input_ids")
    if ids is not None and ids.shape[0] != 1:
        raise InputError(f"The tower is cut for one prompt, and the inputs have {ids.shape[0]}: give one.")
    with cutting(anatomy) as state, Hooks(anatomy, in_bypassed=True) as hooks:
        stack = tower_layers(image_tower(anatomy) or nn.Identity())
        wanted = _wanted(layers, len(stack))
        kept: dict[int, Tensor] = {}
        for number, (block, _) in enumerate(stack):
            hooks.after(block, _keeper(kept, number))
        before = row_logits(anatomy, inputs, row)[0]
        if not state.sizes:
            raise InputError("The prompt has no picture that goes through the vision tower: give an image.")
        untouched, sizes = dict(kept), next(iter(state.sizes.values()))
        others = find_others(anatomy, inputs, stack[0][0])
        patches = find_patches(anatomy, inputs, layout, sizes, others)
        sources, numbers = patch_sources(patches, layout, side)
        answer = answer_of(before, target)
        rows, local = [], []
        if on_pass is not None:
            on_pass(0, len(wanted) * len(numbers))
        for done, (layer, hidden) in enumerate((layer, hidden) for layer in wanted for hidden in numbers):
            first = max(0, layer - (window - 1) // 2)
            last = min(len(stack) - 1, layer + window // 2)
            state.hidden = dict.fromkeys(range(first, last + 1), hidden)
            rows.append(effect_rows(answer, row_logits(anatomy, inputs, row)))
            local.append(_moved(untouched[layer], kept[layer], hidden))
            if on_pass is not None:
                on_pass(done + 1, len(wanted) * len(numbers))
    shape = (len(wanted), len(sources))
    maps = effect_maps(torch.cat(rows), *shape)
    if window == 1:
        l2, cosine = torch.tensor(local, dtype=torch.float64).T
        maps = {"l2": l2.reshape(shape), "cosine": cosine.reshape(shape)} | maps
    return AnswerEffects(tuple(sources), maps, answer.baseline(), layers=wanted)


def _wanted(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(depth))
    for layer in layers:
        if not 0 <= layer < depth:
            raise InputError(f"Layer {layer} is out of range: the vision tower has layers 0 to {depth - 1}.")
    return tuple(layers)


def _keeper(kept: dict[int, Tensor], layer: int) -> Callable[[nn.Module, Any, Any], None]:
    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        kept[layer] = hidden.detach().reshape(-1, hidden.shape[-1])

    return keep


def _moved(before: Tensor, after: Tensor, hidden: Tensor) -> tuple[float, float]:
    """Mean L2 and cosine distance over the tokens that are not hidden themselves."""
    stay = torch.ones(len(before), dtype=torch.bool)
    stay[hidden] = False
    if not bool(stay.any()):
        return math.nan, math.nan
    old, new = before[stay.to(before.device)].double(), after[stay.to(after.device)].double()
    l2 = (new - old).norm(dim=-1).mean()
    cosine = 1 - torch.cosine_similarity(old, new, dim=-1).mean()
    return float(l2), float(cosine)
