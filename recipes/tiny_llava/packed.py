"""Runs many conversations behind each image, the image itself only once.

The prefix (BOS, "USER:", the image) goes through the language model first; its keys and values, still attached to the
graph, are what every conversation about that image continues from, as a chat does from its cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from data import Batch, Group
from torch import Tensor
from transformers import DynamicCache, LlavaForConditionalGeneration

from sightline.models.transformers_api import cache_from, cache_name


@dataclass(frozen=True)
class Answers:
    """What the model would say where something is to be said. logits: (tokens, vocabulary); the rest (tokens,)."""

    logits: Tensor
    labels: Tensor
    owners: Tensor
    weights: Tensor


def answer(model: LlavaForConditionalGeneration, batch: Batch, features: Tensor, head: list[int]) -> Answers:
    """`features`: (images, 36, vision width) of the frozen tower; `head`: the token ids that stand before the image."""
    language = model.model.language_model
    patches = model.model.multi_modal_projector(features.float())
    words = model.get_input_embeddings()(torch.tensor(head)).expand(len(patches), -1, -1)
    prefix = torch.cat([words, patches], dim=1)
    seen = cache_from(language(inputs_embeds=prefix, use_cache=True))
    hidden = []
    for group in batch.groups:
        taken = group.labels >= 0
        hidden.append(_continue(model, group, seen, len(head), prefix.shape[1])[taken])
    parts = {
        name: torch.cat([getattr(group, name)[group.labels >= 0] for group in batch.groups])
        for name in ("labels", "owners", "weights")
    }
    return Answers(logits=model.lm_head(torch.cat(hidden)), **parts)


def _continue(model: LlavaForConditionalGeneration, group: Group, seen: DynamicCache, head: int, prefix: int) -> Tensor:
    """Hidden states (conversations, length, width) of one group behind its images."""
    cache = DynamicCache()
    for index, layer in enumerate(seen.layers):
        cache.update(layer.keys[group.images], layer.values[group.images], index)
    conversations, length = group.ids.shape
    mask = torch.ones(conversations, 1, length, prefix + length, dtype=torch.bool)
    mask[:, :, :, prefix:] = torch.ones(length, length, dtype=torch.bool).tril()
    mask[:, :, :, head:prefix] = ~group.is_blind[:, None, None, None]
    start = torch.where(group.is_blind, head, prefix)
    return model.model.language_model(
        input_ids=group.ids,
        attention_mask=mask,
        position_ids=start[:, None] + torch.arange(length),
        use_cache=True,
        **{cache_name(model.model.language_model): cache},
    ).last_hidden_state
