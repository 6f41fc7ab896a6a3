"""Dropping between layers as PyramidDrop and SparseVLM do it: what is left stands at positions counted anew.

Rotary positions in one dimension are those of a prompt written short, other ones in each stage of layers, and so are
those of the tokens that are generated. Positions in three dimensions say where in the image a token lies, and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.attention.ownership import bypassed
from sightline.errors import ModelError
from sightline.methods.dropping import Keep, LayerPruning, Raters
from sightline.methods.scoring import VISUAL
from sightline.methods.shorten import TokenSelection
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality
from sightline.models.transformers_api.attention import value_projection
from sightline.models.transformers_api.cache import CACHE_NAMES
from sightline.models.transformers_api.rotary import rotary_of

Recycle = Callable[
    [Float[Tensor, "dropped hidden"], Float[Tensor, " dropped"]],
    "tuple[Int[Tensor, ' merged'], Float[Tensor, 'merged hidden']]",
]
"""From the states and scores of what one sample drops: which of them stay as tokens, and with which states."""


class _Peeked(Exception):
    """What a layer hands to its attention: no error, it ends a look into the layer."""

    def __init__(self, call: AttentionCall) -> None:
        self.call = call


@dataclass(frozen=True)
class _Recycled:
    """What one stage puts back: places, [batch, merged], and states, [batch, merged, hidden]."""

    places: Int[Tensor, "batch merged"]
    states: Float[Tensor, "batch merged hidden"]


def _zeros(width: int, forward: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: x.new_zeros((*x.shape[:-1], width))


class StagePruning(LayerPruning):
    """The dropper of several stages.

    ranks_ahead: a stage ranks by the attention that its own first layer would have on what is left before it, computed
    for that alone; else by that of the layer before. recycle: what of the dropped goes on as new tokens, which stand
    behind all other image tokens and are shown in the places that `recycle` names.
    """

    def __init__(
        self,
        name: str,
        anatomy: Anatomy,
        stages: Mapping[int, Keep],
        raters: Raters | None = None,
        ranks_ahead: bool = False,
        recycle: Recycle | None = None,
    ) -> None:
        super().__init__(name, anatomy, stages, raters)
        self._ranks_ahead, self._recycle = ranks_ahead, recycle
        self._rotary = rotary_of(anatomy.decoder)
        self._turn: list[Callable[[Tensor], Any]] = []
        self._positions: Tensor | None = None
        self._turned: dict[tuple[int, int], Any] = {}
        self._ranked: dict[int, tuple[Tensor, Tensor]] = {}
        self._recycled: dict[int, _Recycled] = {}
        self._order = torch.zeros(0)

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        super().begin(step)
        self._turn, self._positions, self._turned = [], None, {}
        if step.is_start:
            self._ranked, self._recycled = {}, {}
            self._order = torch.arange(step.layout.length).repeat(step.layout.batch, 1)

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
        super().end(step)
        self._turn, self._positions, self._turned, self._ranked = [], None, {}, {}

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The attention that says which positions stay, unless a stage looks for itself."""
        if not self._ranks_ahead:
            super().read(layer, attention, step)

    def _hook(self) -> None:
        super()._hook()
        if self._rotary is not None:
            self._hooks.before(self._rotary, self._note_positions)

    def _note_positions(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the decoder turns positions into rotary embeddings."""
        given = kwargs.get("position_ids", args[1] if len(args) > 1 else None)
        if self._step is None or not isinstance(given, Tensor):
            return
        self._positions = given if given.dim() == 2 else None
        if "position_ids" in kwargs:
            self._turn.append(lambda positions: module.forward(*args, **{**kwargs, "position_ids": positions}))
        else:
            self._turn.append(lambda positions: module.forward(args[0], positions, *args[2:], **kwargs))

    def _selected(self, number: int, scores: Tensor, image: Tensor, kept: TokenSelection) -> TokenSelection:
        self._ranked[number] = scores, image
        return kept.ordered(self._order)

    def _at_stage(self, number: int, module: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        step = self._step
        assert step is not None
        if self._ranks_ahead and step.is_start:
            self._choose(number, EditedCall(self._peek(number, module, inputs)), step)
        if self._recycle is None or number not in self._kept:
            return inputs
        name, whole = next((name, value) for name, value in inputs.items() if isinstance(value, Tensor))
        if step.is_start:
            self._recycled[number] = self._put_back(number, whole)
        back = self._recycled[number]
        places = back.places.to(whole.device)[..., None].expand(-1, -1, whole.shape[2])
        return {**inputs, name: whole.scatter(1, places, back.states.to(whole))}

    def _peek(self, number: int, module: nn.Module, inputs: dict[str, Any]) -> AttentionCall:
        """What the layer would hand to its attention on what is left so far; no more of it is run."""
        before, step, attention = self._at(number), self._step, self._anatomy.attentions[number]
        assert step is not None
        assert attention is not None
        given = inputs if before is None else self._cut_inputs(before, step, inputs)
        given = {name: None if name in CACHE_NAMES else value for name, value in given.items()}

        def stop(call: AttentionCall) -> None:
            raise _Peeked(call)

        with torch.no_grad(), bypassed(self._anatomy), Hooks(self._anatomy, in_bypassed=True) as hooks:
            hooks.intercept([attention], by_call(stop))
            values = value_projection(attention)
            if values is not None:  # what ranks by weights alone needs none
                hooks.shadow(values, "forward", partial(_zeros, values.out_features))
            try:
                module.forward(**given)
            except _Peeked as peeked:
                return peeked.call
        kind = type(self._anatomy.model).__name__
        raise ModelError(f"{self._name} can't look ahead into the attention of layer {number} of {kind}.")

    def _put_back(self, number: int, whole: Float[Tensor, "batch positions hidden"]) -> _Recycled:
        """Let the stage's selection keep places for what is merged; what is merged, and where."""
        assert self._recycle is not None
        assert self._step is not None
        (scores, image), kept, layout = self._ranked[number], self._kept[number], self._step.layout
        stays = torch.zeros_like(image).scatter_(1, kept.index.cpu(), kept.is_real.cpu())
        order = self._order.double()
        places, states = [], []
        for sample, gone in enumerate(image & ~stays):
            dropped = gone.nonzero()[:, 0]
            # Where nothing is dropped, the first position is put back as it is.
            mine, merged = torch.zeros(1, dtype=torch.long), whole[sample, :1]
            if len(dropped):
                there = whole[sample, dropped.to(whole.device)].float()
                chosen, merged = self._recycle(there, scores[sample, dropped].to(whole.device))
                mine = dropped[chosen.cpu()]
                last = order[sample, layout.mask(*VISUAL)[sample]].max()
                order[sample, mine] = last + torch.linspace(0.1, 0.9, len(mine), dtype=order.dtype)
                stays[sample, mine] = True
            places.append(mine)
            states.append(merged)
        self._order = order.argsort(1).argsort(1)
        present, device = layout.modality != int(Modality.PADDING), kept.index.device
        self._kept[number] = TokenSelection.of(stays.to(device), present.to(device)).ordered(self._order)
        # A sample that puts back fewer than others puts its first back again.
        most = max(map(len, places))
        at = [torch.arange(most).where(torch.arange(most) < len(mine), 0) for mine in places]
        return _Recycled(
            torch.stack([mine[index] for mine, index in zip(places, at, strict=True)]),
            torch.stack([state[index.to(state.device)] for state, index in zip(states, at, strict=True)]),
        )

    def _placed(
        self, kept: TokenSelection, step: ForwardPass, whole: Mapping[str, Any], cut: dict[str, Any]
    ) -> dict[str, Any]:
        """What a layer is given, with the positions of a prompt written short."""
        if len(self._turn) != 1 or self._positions is None:
            return cut
        key = (id(kept), kept.length)
        if key not in self._turned:
            positions = self._positions.expand(len(kept.index), -1)
            is_prompt = step.offset == 0
            moved = kept.counted(positions) if is_prompt else positions - kept.dropped.to(positions.device)[:, None]
            self._turned[key] = kept, moved, self._turn[0](moved)  # what is kept alive keeps its id
        _, moved, turned = self._turned[key]
        placed = {"position_ids": moved, "position_embeddings": turned}
        return {**cut, **{name: value for name, value in placed.items() if cut.get(name) is not None}}
