"""Drops positions of a prompt before the decoder runs: it then has fewer to compute, keep in its cache and attend to.

Image features are in place when the decoder is entered, so that this works for any family that puts them among the
token embeddings. What the decoder is given is cut to the positions kept: embeddings, masks, positions, features added
in deeper layers. Rotary positions in one dimension are counted anew, as if the prompt had been written short; those
in three dimensions keep the place in the image that they stand for. While decoding, masks and positions are put right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int, Num
from torch import Tensor

from sightline.attention import ForwardPass
from sightline.attention.late_images import refuse_late_images
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout
from sightline.models.transformers_api.cache import is_static

Choose = Callable[[TokenLayout], Bool[Tensor, "batch positions"]]
"""Which positions of a prompt stay; padding is left out by itself."""


@dataclass(frozen=True)
class TokenSelection:
    """The positions of a prompt that stay, each sample's at the end of its row.

    index: [batch, kept], positions in the whole prompt, in the order in which they run; is_real: alike, False where a
    sample has fewer than others; dropped: [batch], how many positions of the sample, padding apart, are gone; length:
    of the whole prompt; foreign: [batch, length], places that hold no patch any more but what a method put there.
    """

    index: Int[Tensor, "batch kept"]
    is_real: Bool[Tensor, "batch kept"]
    dropped: Int[Tensor, " batch"]
    length: int
    foreign: Bool[Tensor, "batch positions"] | None = None

    @classmethod
    def of(cls, keep: Bool[Tensor, "batch positions"], present: Bool[Tensor, "batch positions"]) -> TokenSelection:
        """Keep these of the positions that are present (no padding)."""
        keep = keep & present
        # A stable sort puts what is dropped in front and keeps the order of the rest.
        index = keep.long().argsort(dim=1, stable=True)[:, -int(keep.sum(1).max()) :]
        return cls(index, keep.gather(1, index), present.sum(1) - keep.sum(1), keep.shape[1])

    def ordered(self, key: Num[Tensor, "batch positions"]) -> TokenSelection:
        """The same, run in the order of a key of each position, above -1."""
        mine = key.to(self.index.device).gather(1, self.index).masked_fill(~self.is_real, -1)
        return replace(self, index=self.index.gather(1, mine.argsort(dim=1, stable=True)))

    @cached_property
    def ascending(self) -> TokenSelection:
        """The same in the order of the prompt, by which masks are cut: a place sees those before it."""
        return self.ordered(torch.arange(self.length).expand(len(self.index), -1))

    def counted(self, positions: Int[Tensor, "batch positions"]) -> Int[Tensor, "batch kept"]:
        """Rotary positions as if the prompt had been written short."""
        is_real = self.is_real.to(positions.device)
        start = self.rows(positions).masked_fill(~is_real, torch.iinfo(torch.long).max).amin(1, keepdim=True)
        return start + (is_real.cumsum(1) - 1).clamp(min=0)

    @cached_property
    def is_whole(self) -> bool:
        """Whether no sample has fewer than others."""
        return bool(self.is_real.all())

    def with_generated(self, count: int) -> TokenSelection:
        """Where the prompt is run again with `count` generated tokens behind it."""
        more = torch.arange(self.length, self.length + count, device=self.index.device).expand(len(self.index), -1)
        is_real = torch.nn.functional.pad(self.is_real, (0, count), value=True)
        return TokenSelection(torch.cat([self.index, more], 1), is_real, self.dropped, self.length + count)

    def rows(self, values: Tensor, axis: int = 1) -> Tensor:
        """Cut the positions of [..., batch, positions, ...] on `axis`; the batch, maybe of size 1, is before it."""
        shape = [1] * values.dim()
        shape[axis - 1], shape[axis] = self.index.shape
        size = list(values.shape)
        size[axis - 1], size[axis] = self.index.shape
        whole = values.expand(*values.shape[: axis - 1], len(self.index), *values.shape[axis:])
        return whole.gather(axis, self.index.to(values.device).reshape(shape).expand(size))

    def layout(self, layout: TokenLayout) -> TokenLayout:
        """The layout of what is left; patch grids point to -1 where a patch is gone."""
        index, is_real = self.index.cpu(), self.is_real.cpu()
        modality = layout.modality.gather(1, index).masked_fill(~is_real, int(Modality.PADDING))
        place = torch.full((len(index), self.length + 1), -1)
        place.scatter_(1, index.masked_fill(~is_real, self.length), torch.arange(index.shape[1]).expand_as(index))
        place[:, self.length] = -1
        if self.foreign is not None:
            place[:, : self.length][self.foreign.cpu()] = -1
        grids = tuple(
            tuple(replace(grid, positions=place[sample, grid.positions]) for grid in mine)
            for sample, mine in enumerate(layout.grids)
        )
        bos = layout.bos.gather(1, index) & is_real
        return replace(layout, modality=modality, bos=bos, grids=grids, prompt_length=int(modality.shape[1]))


class PromptPruning:
    """The shortener (see `sightline.attention.attach`) that keeps what `choose` says of every prompt.

    needs_whole: it says so of prompts as they were written, so that no other method may have changed their length.
    """

    def __init__(self, name: str, anatomy: Anatomy, choose: Choose, needs_whole: bool = False) -> None:
        refuse_late_images(name, anatomy)
        self._name, self._anatomy, self._choose = name, anatomy, choose
        self._needs_whole, self._written = needs_whole, 0
        self._kept: TokenSelection | None = None
        self._next: Tensor | None = None

    def at_model(self, step: ForwardPass, inputs: dict[str, Any]) -> dict[str, Any]:
        """Behind a shortened prompt, put the mask and the positions right."""
        if inputs.get("labels") is not None:
            raise InputError(f"{self._name} drops tokens, to which the labels of training do not fit: leave it out.")
        if is_static(step.cache):
            raise InputError(f"{self._name} shortens the cache: call generate without a static cache_implementation.")
        if step.offset and step.length > 1:
            raise InputError(
                f"{self._name} needs the whole prompt in one pass: leave prefill_chunk_size and assistant models out."
            )
        if step.is_start:
            self._written = step.layout.length
        kept = self._kept
        if step.is_start or step.offset == 0 or kept is None:
            return inputs
        changed = dict(inputs)
        mask = inputs.get("attention_mask")
        if mask is not None:
            real = kept.is_real.to(mask.device, mask.dtype)
            changed["attention_mask"] = torch.cat([real, mask[:, kept.length :]], 1)
        elif not bool(kept.is_real.all()):
            grown = step.offset + step.length - kept.index.shape[1]
            changed["attention_mask"] = torch.nn.functional.pad(kept.is_real.long(), (0, grown), value=1)
        positions = inputs.get("position_ids")
        if positions is not None:
            changed["position_ids"] = self._moved(positions, kept.dropped.to(positions.device)[:, None])
        elif self._next is not None:
            ahead = torch.arange(step.length, device=self._next.device) + step.offset - kept.index.shape[1]
            changed["position_ids"] = (self._next[:, None] + ahead).expand(3, -1, -1)
        return changed

    def at_decoder(self, step: ForwardPass, inputs: dict[str, Any]) -> tuple[ForwardPass, dict[str, Any]]:
        """Cut a prompt (or one that is run again, where there is no cache) to what stays."""
        if step.offset:
            return step, inputs
        if step.is_start:
            if self._needs_whole and step.layout.length != self._written:
                raise InputError(
                    f"{self._name} chooses among all patches of a picture, and another method has changed how many the "
                    f"prompt has: enter {self._name} before it, or leave one of them out."
                )
            self._kept = self.planned(step.layout)
        if self._kept is None:
            return step, inputs
        kept = self._kept if step.is_start else self._kept.with_generated(step.length - self._kept.length)
        layout = kept.layout(step.layout) if step.is_start else step.layout
        return replace(step, layout=layout, length=int(kept.index.shape[1])), self._cut(kept, inputs)

    def planned(self, layout: TokenLayout) -> TokenSelection | None:
        """What of a prompt is run; None for all of it as it is."""
        keep, present = self._choose(layout), layout.modality != int(Modality.PADDING)
        return None if bool((keep | ~present).all()) else TokenSelection.of(keep, present)

    def _cut(self, kept: TokenSelection, inputs: dict[str, Any]) -> dict[str, Any]:
        shape = (len(kept.index), kept.length)
        device = inputs["inputs_embeds"].device
        kept = replace(kept, index=kept.index.to(device), is_real=kept.is_real.to(device))
        cut = {
            name: kept.rows(value) if isinstance(value, Tensor) and value.shape[:2] == shape else value
            for name, value in inputs.items()
        }
        cut["attention_mask"] = self._mask(kept, inputs.get("attention_mask"))
        if inputs.get("position_ids") is not None:
            cut["position_ids"] = self._positions(kept, inputs["position_ids"])
        marks, features = inputs.get("visual_pos_masks"), inputs.get("deepstack_visual_embeds")
        if marks is not None and features is not None:
            stays = torch.zeros_like(marks).scatter_(1, kept.index, kept.is_real)
            cut["visual_pos_masks"] = cut["visual_pos_masks"] & kept.is_real
            cut["deepstack_visual_embeds"] = [part[stays[marks].to(part.device)] for part in features]
        return cut

    def _mask(self, kept: TokenSelection, mask: Any) -> Any:
        if isinstance(mask, Mapping):
            return {name: self._mask(kept, value) for name, value in mask.items()}
        if mask is None:
            return None if bool(kept.is_real.all()) else kept.is_real.long()
        if isinstance(mask, Tensor) and mask.dim() == 2:
            return kept.rows(mask) * kept.is_real.to(mask.dtype)
        if not isinstance(mask, Tensor) or self._slides():
            kind = type(self._anatomy.model).__name__
            raise ModelError(
                f"{self._name} can't shorten the prompt of {kind}, whose masks are made for windows ahead."
            )
        cut = kept.ascending
        square = cut.rows(cut.rows(mask.transpose(1, 2), 1).transpose(1, 2).transpose(1, 3), 1).transpose(1, 3)
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return square.masked_fill(~kept.is_real[:, None, None], hidden)

    def _slides(self) -> bool:
        return "sliding_attention" in (getattr(self._anatomy.text_config, "layer_types", None) or ())

    def _positions(self, kept: TokenSelection, positions: Tensor) -> Tensor:
        if positions.dim() == 2:
            return kept.counted(positions)
        self._next = positions[-3:].amax((0, 2)) + 1
        cut = kept.rows(positions, 2)
        if len(positions) == 4:  # the first are those of the text, from which packed sequences are told
            cut[0] = kept.counted(positions[0])
        return cut

    def _moved(self, positions: Tensor, dropped: Tensor) -> Tensor:
        if positions.dim() == 2:
            return positions - dropped
        if len(positions) == 4:
            return torch.cat([(positions[0] - dropped)[None], positions[1:]])
        return positions
