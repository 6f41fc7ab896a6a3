"""The language loss, from the logits of answers alone.

Logits of a whole prompt would be the largest thing in a training step: of 15,301 positions (a photo of 12 megapixels
in Qwen2.5-VL) times 151,936 words, 9.3 GB in float32 for a sample, and as much again for their gradient. Only the
answer's positions are predicted, and only their logits are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from sightline.models.logits import keeps_logits
from sightline.training.collator import IGNORED_TOKEN

ROWS_AT_ONCE = 256
"""Positions whose log-probabilities are held in float32 at once: 160 MB of 152,000 words."""


def language_pass(model: Any, inner: Any, batch: dict[str, Any]) -> Any:
    """A forward pass over a batch; its `loss` is the mean over the tokens to predict where the batch has `labels`.

    Args:
        model: what is called, as PEFT or a distributed engine wraps it.
        inner: the Transformers model inside.
    """
    if not keeps_logits(inner):
        return model(**batch)
    labels = batch.get("labels")
    if labels is None:
        return model(**batch, logits_to_keep=1)
    places = (labels[:, 1:] != IGNORED_TOKEN).any(0).nonzero().flatten()
    places = places if len(places) else places.new_zeros(1)
    wanted = labels[:, places + 1]

    def loss(logits: Tensor, *_: Any, **__: Any) -> Tensor:
        return mean_loss(logits if logits.shape[1] == len(places) else logits[:, places], wanted)

    with _loss_function(inner, loss):
        return model(**batch, logits_to_keep=places)


@contextmanager
def _loss_function(model: Any, function: Callable[..., Tensor]) -> Iterator[None]:
    before = model.loss_function
    model.loss_function = function
    try:
        yield
    finally:
        model.loss_function = before


def mean_loss(logits: Float[Tensor, "batch kept words"], wanted: Int[Tensor, "batch kept"]) -> Float[Tensor, ""]:
    """-log p of the wanted token, on average over those that are wanted; 0 where none is."""
    is_wanted = wanted != IGNORED_TOKEN
    rows, tokens = logits[is_wanted], wanted[is_wanted].to(logits.device)
    if not len(tokens):
        return logits.float().sum() * 0
    parts = zip(torch.split(rows, ROWS_AT_ONCE), torch.split(tokens, ROWS_AT_ONCE), strict=True)
    # Each part's log-probabilities are computed again in the backward pass instead of being kept.
    return torch.stack([checkpoint(_sum, *part, use_reentrant=False) for part in parts]).sum() / len(tokens)


def _sum(rows: Tensor, tokens: Tensor) -> Tensor:
    return cross_entropy(rows.float(), tokens, reduction="sum")
