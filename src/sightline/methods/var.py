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
        self._least = torch.tensor([0.0, method.summ, _TINY])

    def givers(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
        """[batch, positions], bool: the tokens that give attention away."""
        return sinks

    def describe(self, layer: int, step: ForwardPass, image: Tensor, sinks: Tensor) -> Tensor:
        """Columns whose sums, weighted by attention, say all that is needed of a row.

        0: rho s - r s, which is >= 0 where r <= rho; 1: s; 2: the attention of those that receive; 3: B;
        4, 5: which tokens receive, and which give, with the share they lose.
        """
        rho, lost = self._method.rho, 1 - self._method.p
        image = image & sinks.any(1, keepdim=True)
        giving = self.givers(layer, step, image, sinks)
        takes, visual = (image & ~giving).float(), image.float()
        freed = lost * giving.float()
        return torch.stack([rho * visual - (sinks & image).float(), visual, takes, freed, takes, -freed], -1)

    def changed(self, values: Tensor, keys: Tensor, head: int = 0, wanted: Tensor | None = None) -> Tensor:
        """The weights, redistributed in those heads and rows that qualify."""
        if self._least.device != keys.device:
            self._least = self._least.to(keys.device)
        batch, heads, count, width = values.shape
        flat = values.reshape(batch, heads * count, width)
        sums = torch.matmul(flat, keys[..., :4])
        chosen = (sums[..., :3] >= self._least).all(-1)
        allowed = self.head_mask(head, heads, keys.device)
        for which in (allowed, wanted):
            if which is not None:
                chosen = (chosen.reshape(batch, heads, count) & which).reshape(batch, heads * count)
        acts = chosen.float()
        gain = acts * sums[..., 3] / sums[..., 2].clamp_min(_TINY)
        change = torch.matmul(torch.stack([gain, acts], -1), keys[..., 4:].transpose(1, 2))
        return torch.addcmul(flat, flat, change).reshape(values.shape)
