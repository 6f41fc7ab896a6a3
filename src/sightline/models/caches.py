"""What a model's cache keeps: its layers, copies of its start, and whether two begin alike."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from sightline.models.transformers_api.cache import cache_names_in, grows


def growing_layers(cache: Any, model: Any) -> list[Any]:
    """The layers of a filled cache that keeps all keys and values of every layer; none for other caches.

    Each has `keys` and `values`, [rows, heads, positions, width].
    """
    layers = list(getattr(cache, "layers", ())) if grows(cache, model.config) else []
    lengths = {layer.get_seq_length() for layer in layers}
    return layers if len(lengths) == 1 and 0 not in lengths else []


def started_cache(cache: Any, length: int, every: int) -> Any:
    """A growing cache that begins as another one: its first positions, of each `every`-th row."""
    new = copy.copy(cache)
    new.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in new.layers:
        layer.keys, layer.values = (kept[::every, :, :length] for kept in (layer.keys, layer.values))
    return new


def set_output(output: Any, logits: Tensor, cache: Any) -> None:
    """Put other logits and another cache into what a forward pass gave back."""
    output["logits"] = logits
    for name in cache_names_in(output):
        output[name] = cache


def has_same_start(cache: Any, other: Any, layer: int, length: int) -> bool:
    """Whether two caches keep the same keys in a layer at their first positions; False where that can't be seen."""
    kept = [getattr(held.layers[layer], "keys", None) for held in (cache, other) if hasattr(held, "layers")]
    tensors = [keys for keys in kept if isinstance(keys, Tensor) and keys.dim() == 4]
    if len(tensors) < 2:
        return False
    first, second = (keys[:, :, :length] for keys in tensors)
    if first.shape[1:] != second.shape[1:] or first.shape[2] < length or first.device != second.device:
        return False
    # A prompt may be copied for several answers, or one of several rows kept.
    return bool((first[:, None] == second[None]).flatten(2).all(-1).any(1).all())
