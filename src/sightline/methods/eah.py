"""EAH: enhance attention heads by the one that sees the image best (arXiv 2411.09968, EMNLP 2025; confirmed)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention import AttentionCall, row_weights
from sightline.attention.weights import weight_blocks
from sightline.methods.attention_edit import AttentionEdit, Keys, Rows
from sightline.methods.base import register, setting
from sightline.methods.generating import check_least
from sightline.methods.scoring import check_layers
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class EAH(AttentionEdit):
    """In one shallow layer, gives every head the attention of the head in which most image tokens are read.

        m_hj = mean over later rows i of a_ij^h             j image
        h* = argmax_h |{j: m_hj > threshold}|;    a_ij^h <- a_ij^h*  for all heads h and rows i of the prompt

    a: [batch, heads, rows, keys], attention weights. Only the prompt is changed; decoding steps are the model's own.
    Where no head reads any image token so, nothing changes. The mean is over the rows that stand behind j. Where heads
    share values, h* is a query head with its own group's keys.

    The public code differs from its page: it acts in every layer (`layer` = none), has a threshold of 0.0008, takes
    648 - j for the number of rows behind j however long the prompt is, passes over the image's first token, and keeps
    the model where the best head is head 0.
    Control: `random` = true, a random head in the place of h*.
    """

    name: ClassVar[str] = "eah"
    rows: ClassVar[Rows] = "all of the prompt"
    stage: ClassVar[Literal["scores", "weights"]] = "weights"
    layer: int | None = setting(1, "the layer whose heads are made alike; none: every layer")
    threshold: float = setting(0.002, "an image token counts where it gets more attention than this on average")
    random: bool = setting(False, "a control: a random head in the place of the best")
    seed: int = setting(0, "of the draw of a head")

    def __post_init__(self) -> None:
        check_least(self.name, 0, threshold=self.threshold)

    def chosen_layers(self, anatomy: Anatomy) -> frozenset[int]:
        """The layer acted on in this model."""
        return check_layers(self.name, anatomy.attention_layers if self.layer is None else (self.layer,), anatomy)

    def at_call(
        self, call: AttentionCall, rows: Int[Tensor, " rows"], keys: Keys
    ) -> tuple[AttentionCall, Tensor, Tensor]:
        """The call of the best head alone, which samples have one, [batch], and the rows."""
        counts = self.image_tokens(call, rows, keys)
        most, best = counts.max(1)
        if self.random:
            drawn = torch.randint(counts.shape[1], (1,), generator=torch.Generator().manual_seed(self.seed))
            best = drawn.to(best.device).expand_as(best)
        group = best // call.group_size
        batch = torch.arange(len(best), device=best.device)
        one = replace(call, query=call.query[batch, best][:, None], key=call.key[batch, group][:, None])
        one = replace(one, value=call.value[batch, group][:, None])
        sink = call.options.get("s_aux")
        if isinstance(sink, Tensor) and len(best) == 1:
            one = replace(one, options={**call.options, "s_aux": sink[best]})
        return one, most > 0, rows

    def image_tokens(self, call: AttentionCall, rows: Int[Tensor, " rows"], keys: Keys) -> Int[Tensor, "batch heads"]:
        """How many image tokens each head reads, over the threshold, on average over the rows behind them."""
        image = keys.image.any(0)[0, 0].nonzero()[:, 0]
        later = keys.acts[..., None] & (torch.arange(call.queries, device=image.device)[:, None] > image)
        total = torch.zeros((len(later), call.heads, len(image)), device=image.device)
        for block in weight_blocks(call, rows):
            heads = slice(block.head, block.head + block.values.shape[1])
            total[:, heads] += (block.values[..., image] * later[:, None, block.rows]).sum(2)
        mean = total / later.sum(1).clamp_min(1)[:, None]
        return ((mean > self.threshold) & keys.image[:, 0, :, image]).sum(-1)

    def edit(
        self, values: Float[Tensor, "batch heads rows keys"], keys: Keys
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The best head's weights, in every head."""
        one, has_best, rows = keys.seen
        weights = row_weights(one, rows[keys.rows])
        return torch.where(has_best[:, None, None, None], weights, values)

    def by_kernel(
        self, call: AttentionCall, rows: Int[Tensor, " rows"], keys: Keys
    ) -> Float[Tensor, "batch queries heads value_dim"] | None:
        """The kernel over the best head's queries and keys and every head's own values."""
        one, has_best, _ = keys.seen
        if not call.is_bare:
            return None
        alike = replace(call, query=one.query.expand_as(call.query), key=one.key.expand_as(call.key)).run()
        changed = (keys.acts & has_best[:, None])[..., None, None]
        return alike if bool(changed.all()) else torch.where(changed, alike, call.run())
