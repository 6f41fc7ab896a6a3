"""AD-HH: adaptive deactivation of hallucination heads ("Modular Attribution", ICLR 2025; confirmed in its code)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.artifacts import HEADS
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import anatomy_and_layout, register, setting
from sightline.methods.generating import check_share
from sightline.methods.scoring import check_layers
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class ADHH(AttentionEdit):
    """Takes the text away from heads that are known to make words up, wherever they read mostly text.

        where sum over text behind the image of a_j >= threshold:   a_j <- 0 for that text

    a: [batch, heads, 1, keys], attention weights of the row that predicts the next token, in the heads named; what is
    taken is not given to others. Text behind the image: the question and all that was generated. The public code sums
    over the batch; here each sample has its own sum.

    Which heads: those that invented objects owe most to, a list for each model. `sightline impact --unit head` finds
    what each head does to a token, and writes a list as `heads.json`, which the field takes in the place of names; it
    takes what `sl.head_effects` or `sl.impact` found as well. Heads found in another model are refused. The
    paper's list for LLaVA-1.5-7B, layer and head:
    16.29+26.9+13.31+15.10+20.12+30.9+19.18+17.0+18.9+26.28+19.27+18.26+15.25+14.16+31.26+15.24+31.3+22.20+27.29+17.28.
    Control: `random` = true, as many of the other heads.
    """

    name: ClassVar[str] = "adhh"
    rows: ClassVar[Rows] = "last"
    stage: ClassVar[Literal["scores", "weights"]] = "weights"
    heads: tuple[str, ...] | Any | None = setting(
        None, "the heads, as 16.29+26.9 (layer.head), or a heads.json of `impact`"
    )
    threshold: float = setting(0.4, "attention to the text behind the image from which a head is silenced, 0 to 1")
    random: bool = setting(False, "a control: as many of the model's other heads")
    seed: int = setting(0, "of the draw of other heads")

    def __post_init__(self) -> None:
        check_share(self.name, threshold=self.threshold)
        object.__setattr__(self, "heads", HEADS.read(self.heads))
        self._pairs()

    def require_complete(self) -> None:
        """InputError without heads."""
        if self.heads is None:
            raise InputError("adhh needs the model's heads that make words up: give the field heads, as 16.29+26.9.")

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layers that the heads stand in."""
        self.require_complete()
        check_layers(self.name, tuple(layer for layer, _ in self._pairs()), anatomy)
        for layer, head in self._pairs():
            if not 0 <= head < anatomy.num_heads:
                raise InputError(
                    f"Head {layer}.{head} is out of range in adhh: the model has heads 0 to {anatomy.num_heads - 1}."
                )
        return frozenset(layer for layer, _ in self._pairs())

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on all that runs inside.

        Raises:
            InputError: as of `AttentionEdit`, for heads that were found in another model, and where no others are left.
            ModelError: as of `AttentionEdit`.
        """
        acting = self
        anatomy, _ = anatomy_and_layout(model, layout)
        if self.heads is not None:
            HEADS.require_model(self.heads, model, anatomy)
        if self.random:
            self.chosen_layers(anatomy)
            acting = replace(self, heads=self._others(anatomy), random=False)
        with super(ADHH, acting).on(model, layout):
            yield

    def _others(self, anatomy: Anatomy) -> tuple[str, ...]:
        """As many heads as are named, drawn from all that are not."""
        named = self._pairs()
        rest = [
            (layer, head)
            for layer in anatomy.attention_layers
            for head in range(anatomy.num_heads)
            if (layer, head) not in named
        ]
        if len(rest) < len(named):
            raise InputError(f"adhh has {len(named)} heads named and {len(rest)} others to draw from: name fewer.")
        order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(self.seed))[: len(named)]
        return tuple(f"{layer}.{head}" for layer, head in sorted(rest[place] for place in order.tolist()))

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The weights, without the text in those heads that read mostly text."""
        mine = [head - keys.head for layer, head in self._pairs() if layer == keys.layer]
        index = torch.arange(values.shape[1], device=values.device)
        named = torch.isin(index, torch.tensor(mine, device=values.device))[None, :, None, None]
        reads_text = (values * keys.behind).sum(-1, keepdim=True) >= self.threshold
        return values.masked_fill(named & reads_text & keys.behind, 0.0)

    def _pairs(self) -> list[tuple[int, int]]:
        pairs = []
        for text in self.heads or ():
            layer, _, head = text.partition(".")
            if not (layer.isdecimal() and head.isdecimal()):
                raise InputError(f"'{text}' is no head in adhh: write layer.head, as 16.29.")
            pairs.append((int(layer), int(head)))
        return pairs
