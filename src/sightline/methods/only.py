"""ONLY: one layer more suffices (arXiv 2507.00898, ICCV 2025; details as in its public code)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.passes import LayoutSource
from sightline.errors import ModelError
from sightline.methods.base import anatomy_and_layout, register, setting
from sightline.methods.generating import check_least, check_share, cut_off
from sightline.methods.hidden import HiddenMethod, Lens, feed_forward, unembed
from sightline.methods.scoring import PlacesOf, require_image
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class ONLY(HiddenMethod):
    """Sets the answer against one made of the first layer's text-minded heads and the last layer alone, in one pass.

        a_j <- 0 where a_j > mean + std        apart for text keys (the first position left out) and image keys
        T_h = H(a over text, scaled to 1) / H(a over image, scaled to 1);      heads with T_h < mean T are silenced
        b = W_O (the other heads' a V);    g = 0.2 h_in + norm(b);    g <- g + FFN(norm g)
        l~ = W_U (norm(g) + 0.5 norm(h));    d = sum |p - p~|
        l' = l + 3 l~  where d < threshold,   2 l - l~  elsewhere;      -inf where p < beta max p

    a: [heads, keys], the first layer's attention weights in the last row; h_in, h: [hidden], what enters and what
    leaves the last layer, whose two norms and feed-forward part g goes through. The 0.2, the 0.5, the norms and the
    factors 3, 2 and 1 are those of the public code for LLaVA. threshold is 0.2 for POPE, 0.25 for captions. It acts in
    `generate`, and is meant for sampling. It fits layers with a norm before attention and one before the feed-forward
    part: others are refused. Control: `cut_off:beta=0.1`.
    """

    name: ClassVar[str] = "only"
    threshold: float = setting(0.2, "distance of the two distributions below which they are added, 0 to 2")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    add: float = setting(3.0, "weight of the text's answer where it is added")
    take: float = setting(1.0, "weight of the text's answer where it is taken away")

    def __post_init__(self) -> None:
        check_least(self.name, 0, threshold=self.threshold, add=self.add, take=self.take)
        check_share(self.name, beta=self.beta)

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """What enters the last layer."""
        return (len(anatomy.layers) - 1,)

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside.

        Raises:
            InputError: for a prompt without an image.
            ModelError: for a model whose layers are built otherwise.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        last = _LastLayer(self.name, anatomy)
        text = _TextHeads(self.name, anatomy)

        def scores(logits: Tensor, lens: Lens, step: int) -> Tensor:
            state, left = (lens.states[len(anatomy.layers) - before] for before in (1, 0))
            return self.combine(logits, last.logits(text.output.to(state), state, left))

        with attach(anatomy, reader=text, layout=source, layers=(0,)), self.reading(anatomy, scores):
            yield

    def combine(
        self, logits: Float[Tensor, "rows vocabulary"], text: Float[Tensor, "rows vocabulary"]
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        distance = (logits.softmax(-1) - text.softmax(-1)).abs().sum(-1, keepdim=True)
        near = distance < self.threshold
        mixed = torch.where(near, logits + self.add * text, (1 + self.take) * logits - self.take * text)
        return cut_off(mixed, logits, self.beta)


class _LastLayer:
    """The last layer's norms and feed-forward part, and the first layer's output projection."""

    def __init__(self, name: str, anatomy: Anatomy) -> None:
        layer: Any = anatomy.layers[-1]
        norms = [part for label, part in layer.named_children() if "norm" in label]
        first = anatomy.attentions[0]
        projection = getattr(first, "o_proj", None)
        if len(norms) != 2 or not isinstance(projection, nn.Module):
            kind = type(anatomy.model).__name__
            raise ModelError(f"{name} needs layers with two norms and an output projection, and {kind} has others.")
        self._anatomy, self._norms, self._projection = anatomy, norms, projection
        self._part = feed_forward(name, anatomy, len(anatomy.layers) - 1, whole=True)

    def logits(
        self,
        heads: Float[Tensor, "rows width"],
        state: Float[Tensor, "rows hidden"],
        left: Float[Tensor, "rows hidden"],
    ) -> Float[Tensor, "rows vocabulary"]:
        """l~ above; state, left: what enters and what leaves the last layer."""
        g = 0.2 * state + self._norms[0](self._projection(heads))
        output = self._part(self._norms[1](g)[:, None])
        g = g + (output if isinstance(output, Tensor) else output[0])[:, 0]
        norm: Any = self._anatomy.norm
        return unembed(self._anatomy, norm(g) + 0.5 * norm(left), norm=False)


class _TextHeads:
    """Reads the first layer's last row."""

    def __init__(self, name: str, anatomy: Anatomy) -> None:
        self._name, self._first, self._places = name, anatomy.attention_layers[0], PlacesOf()
        if self._first != 0:
            raise ModelError(f"{name} reads the first layer's attention, and that of this model has none.")
        self.output = torch.zeros(0)

    def begin(self, step: ForwardPass) -> None:
        """A prompt must have an image."""
        if step.is_start:
            require_image(self._name, step.layout)

    def end(self, step: ForwardPass) -> None:
        """The pass is over; the output stays until it is used."""

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The output of the heads that look at the text, of a last row."""
        call = attention.call
        weights = attention.row_weights(torch.tensor([call.queries - 1], device=call.query.device))[:, :, 0]
        places = self._places.at(step, weights.device)
        image = places.keys(places.visual, call.first_key, call.keys)[:, None]
        padding = places.keys(places.rest, call.first_key, call.keys)[:, None]
        start = padding.long().cumsum(-1).amax(-1, keepdim=True) if bool(padding.any()) else 0
        index = torch.arange(call.keys, device=weights.device)
        text = ~image & ~padding & (index != start)
        value = call.value[:, :, : call.keys].float().repeat_interleave(call.group_size, 1)
        self.output = torch.einsum("bhk,bhkd->bhd", text_minded(weights, text, image), value).flatten(1)


def text_minded(
    weights: Float[Tensor, "batch heads keys"], text: Bool[Tensor, "batch 1 keys"], image: Bool[Tensor, "batch 1 keys"]
) -> Float[Tensor, "batch heads keys"]:
    """The weights without their peaks, of the heads that are spread over the text rather than over the image."""
    kept = without_peaks(weights, text) + without_peaks(weights, image)
    ratio = entropy(kept * text, 0.0) / entropy(kept * image, inf)
    speaks = ratio >= ratio.mean(-1, keepdim=True)
    return (kept + weights * (~text & ~image)) * speaks[..., None]


def without_peaks(
    weights: Float[Tensor, "batch heads keys"], group: Bool[Tensor, "batch 1 keys"]
) -> Float[Tensor, "batch heads keys"]:
    """The weights of a group of keys, 0 where one is above the group's mean by more than its deviation."""
    count = group.sum(-1, keepdim=True)
    mean = (weights * group).sum(-1, keepdim=True) / count
    deviation = (((weights - mean).square() * group).sum(-1, keepdim=True) / (count - 1).clamp_min(1)).sqrt()
    return weights * group * (weights <= mean + deviation)


def entropy(weights: Float[Tensor, "batch heads keys"], nothing: float) -> Float[Tensor, "batch heads"]:
    """Of weights scaled to sum to 1, in nats; `nothing` where all are 0."""
    total = weights.sum(-1, keepdim=True)
    p = weights / total
    return torch.where(total[..., 0] > 0, -(p * (p + 1e-6).log()).sum(-1), nothing)
