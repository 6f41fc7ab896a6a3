"""Runs many conversations behind each image, the image itself only once.

The prefix (all that stands before the image, and the image) goes through the language model first; its keys and
values, still attached to the graph, are what every conversation about that image continues from, as a chat does from
its cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from common.data import Batch, Group
from sightline.models.transformers_api.cache import cache_name


@dataclass(frozen=True)
class Prefix:
    """What stands before the words of every conversation, for some images of one size.

    embeddings: (images, length, width). head: how many of its tokens stand before the image; the rest is the image.
    positions: (3, length) where they have three dimensions, else None. behind: the position of the first token behind
    the image. extra: what the language model takes besides, such as DeepStack's features.
    """

    embeddings: Tensor
    head: int
    behind: int
    positions: Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """What the model would say where something is to be said. logits: (tokens, vocabulary); the rest (tokens,)."""

    logits: Tensor
    labels: Tensor
    owners: Tensor
    weights: Tensor


def answer(model: Any, batch: Batch, prefix: Prefix) -> Answers:
    """What the model would say in every conversation of the batch, behind the images of the prefix."""
    language = model.model.language_model
    seen = DynamicCache()
    images = len(prefix.embeddings)
    places = {} if prefix.positions is None else {"position_ids": prefix.positions[:, None].expand(-1, images, -1)}
    language(inputs_embeds=prefix.embeddings, use_cache=True, **{cache_name(language): seen}, **places, **prefix.extra)
    hidden = []
    for group in batch.groups:
        hidden.append(_continue(language, group, seen, prefix)[group.labels >= 0])
    parts = {
        name: torch.cat([getattr(group, name)[group.labels >= 0] for group in batch.groups])
        for name in ("labels", "owners", "weights")
    }
    return Answers(logits=model.lm_head(torch.cat(hidden)), **parts)


def _continue(language: nn.Module, group: Group, seen: DynamicCache, prefix: Prefix) -> Tensor:
    """Hidden states (conversations, length, width) of one group behind its images."""
    cache = DynamicCache()
    for index, layer in enumerate(seen.layers):
        cache.update(layer.keys[group.images], layer.values[group.images], index)
    conversations, length = group.ids.shape
    before = prefix.embeddings.shape[1]
    mask = torch.ones(conversations, 1, length, before + length, dtype=torch.bool)
    mask[:, :, :, before:] = torch.ones(length, length, dtype=torch.bool).tril()
    mask[:, :, :, prefix.head : before] = ~group.is_blind[:, None, None, None]
    start = torch.where(group.is_blind, prefix.head, prefix.behind)
    positions = start[:, None] + torch.arange(length)
    return language(
        input_ids=group.ids,
        attention_mask=mask,
        position_ids=positions if prefix.positions is None else positions.expand(3, -1, -1),
        use_cache=True,
        **{cache_name(language): cache},
    ).last_hidden_state
