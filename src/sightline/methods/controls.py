"""Controls of VAR: whatever it gains, do random image tokens or no sinks at all gain it too?

Each acts in the layers and rows in which VAR would. "As many random tokens" are drawn among the sample's image tokens
that are no sinks, by layer, from `seed` and the words of the prompt: not from its place in a batch or from a beam.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sightline.attention import ForwardPass
from sightline.attention.sink_tracker import SinkTracker
from sightline.methods.base import register, setting
from sightline.methods.sink_method import SinkEditor, SinkMethod
from sightline.methods.var import VAR, Redistribution
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality


@register
@dataclass(frozen=True)
class RandomVAR(VAR):
    """VAR with as many random image tokens in the place of the image sinks, in the very heads that VAR chooses.

    Text sinks give as they do in VAR unless `text_sinks` is false; image sinks then receive like other image tokens.
    """

    name: ClassVar[str] = "var_random"
    seed: int = setting(0, "of the draw")
    text_sinks: bool = setting(True, "text sinks give too, as in var")

    def editor(self, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> SinkEditor:
        """Redistributes from random tokens."""
        return _RandomRedistribution(self, anatomy, watch, layers)


@register
@dataclass(frozen=True)
class MaskSinks(SinkMethod):
    """Hides the image sinks from the rows after the image, before the softmax, in every layer that has some."""

    name: ClassVar[str] = "mask_sinks"

    def editor(self, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> SinkEditor:
        """Masks."""
        return _Masking(self, anatomy, watch, layers)


@register
@dataclass(frozen=True)
class MaskRandom(SinkMethod):
    """Hides as many random image tokens as there are image sinks, in the same rows and layers as `mask_sinks`."""

    name: ClassVar[str] = "mask_random"
    seed: int = setting(0, "of the draw")

    def editor(self, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> SinkEditor:
        """Masks random tokens."""
        return _RandomMasking(self, anatomy, watch, layers)


class _RandomRedistribution(Redistribution):
    prompt_in_pieces = False

    def __init__(self, method: RandomVAR, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> None:
        super().__init__(method, anatomy, watch, layers)
        self._seed, self._text_sinks = method.seed, method.text_sinks

    def givers(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
        drawn = draw_image_tokens(self._seed, layer, step, image, sinks)
        return drawn | (sinks & ~image) if self._text_sinks else drawn


class _Masking(SinkEditor):
    stage = "scores"

    def describe(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> tuple[Tensor, ...]:
        return (self.hidden(layer, step, image, sinks)[:, None, None],)

    def hidden(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
        """[batch, positions], bool: the keys to hide."""
        return sinks & image

    def changed(self, values: Tensor, keys: tuple[Tensor, ...], head: int = 0, wanted: Tensor | None = None) -> Tensor:
        (chosen,) = keys
        allowed = self.head_mask(head, int(values.shape[1]), values.device)
        for which in (allowed, wanted):
            if which is not None:
                chosen = chosen & which[..., None]
        return values.masked_fill(chosen, float("-inf"))


class _RandomMasking(_Masking):
    prompt_in_pieces = False

    def __init__(self, method: MaskRandom, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> None:
        super().__init__(method, anatomy, watch, layers)
        self._seed = method.seed

    def hidden(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
        return draw_image_tokens(self._seed, layer, step, image, sinks)


def draw_image_tokens(seed: int, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
    """[batch, positions], bool: as many image tokens that are no sinks as there are image sinks, or all there are."""
    drawn = torch.zeros_like(image)
    for sample in range(int(image.shape[0])):
        count = int((image[sample] & sinks[sample]).sum())
        free = (image[sample] & ~sinks[sample]).nonzero()[:, 0]
        source = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{layer}/{_words(step, sample)}".encode()))
        order = torch.randperm(len(free), generator=source)[:count].to(free.device)
        drawn[sample, free[order]] = True
    return drawn


def _words(step: ForwardPass, sample: int) -> str:
    """The prompt's tokens without padding: the same for the beams of a sample, whatever batch it is in."""
    if step.input_ids is None:
        return ""
    ids = step.input_ids[sample].cpu()
    here = step.layout.modality[sample, step.offset : step.offset + len(ids)] != int(Modality.PADDING)
    # A method that shortens the prompt leaves the layout shorter than the tokens.
    return " ".join(map(str, (ids[here] if len(here) == len(ids) else ids).tolist()))
