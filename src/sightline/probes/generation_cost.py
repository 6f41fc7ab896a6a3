"""What an answer costs beside its seconds: those until its first token, and what the caches hold at its end."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.hooks import Hooks
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import cache_from


@dataclass
class GenerationCost:
    """Of one call of `generate`, a method's second passes among it.

    Attributes:
        prefill_seconds: from entering until the first token is chosen; None where no decoder pass was seen.
        cache_bytes: keys and values of all caches that lived behind the last pass; None where there was none.
    """

    prefill_seconds: float | None = None
    cache_bytes: int | None = None
    _begun: float = field(default_factory=time.perf_counter, repr=False)
    _passes: int = field(default=0, repr=False)
    _caches: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet, repr=False)

    def note_pass(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before a pass of the decoder that is none of a method's own: before the second the first token is there."""
        self._passes += 1
        if self._passes == 2:
            self.note_first_token()

    def note_first_token(self) -> None:
        """The clock is read once the device has done all that it was given."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.prefill_seconds = time.perf_counter() - self._begun

    def note_cache(self, module: nn.Module, args: Any, output: Any) -> None:
        """Behind each pass."""
        cache = cache_from(output)
        if cache is not None:
            self._caches.add(cache)
            self.cache_bytes = sum(map(held_bytes, self._caches))


@contextmanager
def measured_cost(model: Any) -> Iterator[GenerationCost]:
    """Inside, one call of `generate` is measured: enter it in front of the method, so that the method's cost counts.

    model: a `VLM`; of what has no anatomy nothing is known.
    """
    cost = GenerationCost()
    anatomy = getattr(model, "anatomy", None)
    if not isinstance(anatomy, Anatomy):
        yield cost
        return
    with Hooks(anatomy) as own, Hooks(anatomy, in_bypassed=True) as every:
        own.before(anatomy.decoder, cost.note_pass)
        every.after(anatomy.decoder, cost.note_cache)
        yield cost
    if cost._passes == 1:
        cost.note_first_token()


def held_bytes(cache: Any) -> int:
    """What a cache holds: keys, values and other states, its own and those of the layers that it lists."""
    layers = [layer for value in vars(cache).values() if isinstance(value, list) for layer in value]
    states = [state for part in (cache, *layers) for state in vars(part).values() if isinstance(state, Tensor)]
    return sum(state.numel() * state.element_size() for state in states)
