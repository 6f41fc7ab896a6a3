"""VAR: visual attention redistribution (arXiv 2503.03321, ICLR 2025; code seilk/VisAttnSink)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sightline.attention import ForwardPass
from sightline.attention.sink_tracker import SinkTracker
from sightline.methods.base import register, setting
from sightline.methods.sink_method import SinkEditor, SinkMethod
from sightline.models.anatomy import Anatomy

_TINY = 1e-30


@register
@dataclass(frozen=True)
class VAR(SinkMethod):
    """Takes attention from sink tokens and gives it to the image, in heads that look at the image.

    With a_ij^h the weight of query i on key j in head h, after the softmax:

        s = sum_{j image} a_ij          r = sum_{j image sink} a_ij / s
        a (head, row) is redistributed when  r <= rho  and  s >= summ
        sinks, text and image alike:  a'_ij = p a_ij          freed:  B = (1 - p) sum_{j sink} a_ij
        other image tokens:           a'_ij = a_ij + B a_ij / sum_{k image, no sink} a_ik

    All else is unchanged, and rows sum to what they did. Sinks are found once on the prompt, per sample and layer, from
    phi > tau in the dimensions `dims`, and reused while decoding. On the prompt the rows after the sample's last image
    token change, while decoding every row; a layer in which a prompt has no image sink is left alone. Frames of a video
    are image tokens.

    p and rho are named as in the public code: p is the share that a sink keeps, rho the largest share that sinks may
    have. The paper's p and rho are one minus these (issue 5 there): its rho of 0.8, 0.5 and 0.9 for general,
    hallucination and vision-centric questions is 0.2, 0.5 and 0.1 here.

    The public code adds 1e-6 to every image weight below the line of r, which matters where r is within 0.3% of rho
    (576 image tokens, s at summ); and means to leave the last layer alone, but does not: `skip_last` = false.

    p = 1 changes nothing, bit for bit.
    """

    name: ClassVar[str] = "var"
    rho: float = setting(0.5, "largest share of a head's image attention that its sinks may have, 0 to 1")
    summ: float = setting(0.2, "least attention that a head gives to the image, 0 to 1")
    p: float = setting(0.6, "share of its attention that a sink keeps, 0 to 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_share("rho", "summ", "p")

    @property
    def is_idle(self) -> bool:
        """A sink that keeps all gives nothing."""
        return self.p == 1

    def editor(self, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> SinkEditor:
        """Redistributes."""
        return Redistribution(self, anatomy, watch, layers)


class Redistribution(SinkEditor):
    """The editor behind `VAR`. Which tokens give is `givers`, so that a control can choose others."""

    def __init__(self, method: VAR, anatomy: Anatomy, watch: SinkTracker, layers: frozenset[int]) -> None:
        super().__init__(method, anatomy, watch, layers)
        self._method = method
        # r <= rho, s >= summ, and somebody to receive.
        self._least = torch.tensor([0.0, method.summ, _TINY, 0.0])

    def givers(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
        """[batch, positions], bool: the tokens that give attention away."""
        return sinks

    def describe(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> tuple[Tensor, Tensor]:
        """Columns whose sums, weighted by attention, say all that is needed of a row; and what their shares do.

        Sums: rho s - r s, which is >= 0 where r <= rho; s; the attention of those that receive; B. As shares of the
        third, the third (1) takes from those that give, and the fourth goes to those that receive.
        """
        rho, lost = self._method.rho, 1 - self._method.p
        image = image & sinks.any(1, keepdim=True)
        giving = self.givers(layer, step, image, sinks)
        takes, visual, freed = (image & ~giving).float(), image.float(), lost * giving.float()
        none = torch.zeros_like(takes)
        sums = torch.stack([rho * visual - (sinks & image).float(), visual, takes, freed], 1)
        return sums, torch.stack([none, none, -freed, takes], 1)

    def changed(self, values: Tensor, keys: tuple[Tensor, ...], head: int = 0, wanted: Tensor | None = None) -> Tensor:
        """The weights, redistributed in those heads and rows that qualify."""
        summed, moved = keys
        if self._least.device != values.device:
            self._least = self._least.to(values.device)
        batch, heads, count, width = values.shape
        flat = values.view(batch, -1, width)
        sums = torch.bmm(flat, summed.transpose(1, 2))
        chosen = (sums >= self._least).all(-1, keepdim=True)
        for which in (self.head_mask(head, heads, values.device), wanted):
            if which is not None:
                chosen = (chosen.reshape(batch, heads, count) & which).reshape(batch, heads * count, 1)
        shares = sums / sums[..., 2:3].clamp_min(_TINY) * chosen
        return torch.addcmul(flat, flat, torch.bmm(shares, moved)).view(values.shape)
