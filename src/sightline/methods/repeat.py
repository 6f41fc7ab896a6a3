"""Runs the non-text tokens of a prompt several times over: "x5" and "x10" of arXiv 2508.10552, Table 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from sightline.attention import attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.shorten import PromptPruning, TokenSelection
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout

OTHER = (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)


@register
@dataclass(frozen=True)
class Repeat(Method):
    """Gives the language model every image, video and audio token n times, as if they had been sent n times.

        text a b c text   with n = 2   text a b c a b c text

    A run of tokens without text between them is repeated as a whole; positions are counted anew, and every copy has the
    same embedding, that of the projected features. So the prompt holds n times as many non-text tokens that say no more
    than before, and the layout, which probes are shown, follows. That the source repeats whole runs and not each token
    on the spot is our reading: it says only that the non-text tokens are repeated. Patch grids point to the first copy.

    n = 1 changes nothing. Logits of a plain forward pass are those of all positions. Answers need the model's cache.
    """

    name: ClassVar[str] = "repeat"
    n: int = setting(5, "times that each non-text token stands in the prompt, 1 (no change) or more")

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"n is {self.n} in repeat: give 1 or more.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a prompt without non-text tokens, and for training.
            ModelError: for a model whose positions or masks hold more than an order.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        if self.n == 1:
            yield
            return
        with attach(anatomy, shortener=Repeating(self.name, anatomy, self.n), layout=source):
            yield


class Repeating(PromptPruning):
    """The shortener (see `sightline.attention.attach`) that makes a prompt longer."""

    def __init__(self, name: str, anatomy: Anatomy, times: int) -> None:
        super().__init__(name, anatomy, lambda layout: layout.modality != int(Modality.PADDING))
        self._times = times

    def planned(self, layout: TokenLayout) -> TokenSelection | None:
        """Each run of non-text tokens so many times."""
        rows = [_repeated(row, self._times) for row in layout.modality]
        lengths = torch.tensor([len(row) for row in rows])
        present = (layout.modality != int(Modality.PADDING)).sum(1)
        if bool((lengths == present).any()):
            raise InputError(f"{self._name} repeats the tokens of images, video and audio, and this prompt has none.")
        most = max(map(len, rows))
        index = torch.stack([torch.nn.functional.pad(row, (most - len(row), 0)) for row in rows])
        is_real = torch.arange(most) >= most - lengths[:, None]
        return Longer(index, is_real, present - lengths, layout.length)

    def _mask(self, kept: TokenSelection, mask: Any) -> Any:
        if mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            raise ModelError(f"{self._name} can't lengthen the prompt of {self._kind}, whose masks are made ahead.")
        return super()._mask(kept, mask)

    def _positions(self, kept: TokenSelection, positions: Tensor) -> Tensor:
        if positions.dim() != 2:
            raise ModelError(
                f"{self._name} can't lengthen the prompt of {self._kind}, whose positions tell rows and columns."
            )
        return super()._positions(kept, positions)

    @property
    def _kind(self) -> str:
        return type(self._anatomy.model).__name__


@dataclass(frozen=True)
class Longer(TokenSelection):
    """A prompt in which positions stand more than once. dropped: the positions added, negative."""

    def with_generated(self, count: int) -> TokenSelection:
        """Where the prompt is run again with `count` generated tokens behind it."""
        return Longer(**vars(super().with_generated(count)))

    def layout(self, layout: TokenLayout) -> TokenLayout:
        """The layout of the longer prompt; patch grids point to the first copy."""
        whole = super().layout(layout)
        index, is_real = self.index.cpu(), self.is_real.cpu()
        grids = []
        for sample, mine in enumerate(layout.grids):
            first = torch.full((self.length + 1,), -1)
            places = is_real[sample].nonzero()[:, 0].flip(0)  # what is written last is the first copy
            for place in places.tolist():
                first[index[sample, place]] = place
            grids.append(tuple(replace(grid, positions=first[grid.positions]) for grid in mine))
        return replace(whole, grids=tuple(grids))


def _repeated(modality: Int[Tensor, " positions"], times: int) -> Int[Tensor, " longer"]:
    """The positions of one sample as they are run, padding left out."""
    places = (modality != int(Modality.PADDING)).nonzero()[:, 0]
    is_other = torch.isin(modality[places], torch.tensor([int(kind) for kind in OTHER]))
    found: list[Tensor] = []
    edges = [0, *((is_other[1:] != is_other[:-1]).nonzero()[:, 0] + 1).tolist(), len(places)]
    for start, end in pairwise(edges):
        run = places[start:end]
        found += [run] * (times if len(run) and bool(is_other[start]) else 1)
    return torch.cat(found) if found else places
