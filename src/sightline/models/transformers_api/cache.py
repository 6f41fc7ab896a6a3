"""The cache of a forward pass, and other states that a model keeps of a prompt."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from sightline.errors import ModelError
from sightline.models.transformers_api.release import RELEASE

CACHE_NAMES = ("cache", "past_key_values")
"""What a forward calls its cache: the first since 5.24, the second before; files loaded from a hub may keep either."""

ENCODER_OUTPUTS = "mm_encoder_outputs"
"""Features of images, encoded ahead of the forward; since 5.23."""


def cache_of(inputs: Mapping[str, Any]) -> Any:
    """The cache that a forward pass is given; None where it has none.

    Raises:
        ModelError: where something that is a cache stands under a name that no tested release uses.
    """
    for name in CACHE_NAMES:
        if inputs.get(name) is not None:
            return inputs[name]
    unknown = next((name for name, value in inputs.items() if isinstance(value, Cache)), None)
    if unknown is not None:
        raise ModelError(
            f"The model's forward takes its cache as {unknown!r}, which Sightline does not know "
            f"(it knows {' and '.join(map(repr, CACHE_NAMES))}): this release of Transformers, {RELEASE}, or the "
            "model's own code can't be read."
        )
    return None


def without_cache(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A forward's inputs less the cache, under whatever name."""
    return {name: value for name, value in inputs.items() if name not in CACHE_NAMES}


def with_cache(inputs: Mapping[str, Any], cache: Any, module: nn.Module) -> dict[str, Any]:
    """A forward's inputs with this cache, under the name that the module's forward gives it.

    Without a cache (None) also a forward will do that takes none, as a model's whose decoder alone keeps one.
    """
    if cache is None and not takes_cache(module):
        return without_cache(inputs)
    return {**without_cache(inputs), cache_name(module): cache}


def takes_cache(module: nn.Module) -> bool:
    """Whether the module's forward has a cache among its arguments, under a known name."""
    return any(name in _parameters(module) for name in CACHE_NAMES)


def _parameters(module: nn.Module) -> Collection[str]:
    return inspect.signature(inspect.unwrap(type(module).forward)).parameters


def cache_name(module: nn.Module) -> str:
    """What the module's forward calls its cache.

    Raises:
        ModelError: where it takes one under no name that a tested release uses.
    """
    parameters = _parameters(module)
    found = next((name for name in CACHE_NAMES if name in parameters), None)
    if found is None:
        raise ModelError(
            f"The forward of {type(module).__name__} takes its cache as neither {' nor '.join(map(repr, CACHE_NAMES))}:"
            f" this release of Transformers, {RELEASE}, or the model's own code can't be read."
        )
    return found


def cache_from(output: Any) -> Any:
    """The cache that a forward pass gave back; None where it gave none."""
    if isinstance(output, tuple):
        return next((value for value in output if isinstance(value, Cache)), None)
    return next((output[name] for name in cache_names_in(output)), None)


def cache_names_in(output: Mapping[str, Any]) -> list[str]:
    """Under which names a forward pass gave its cache back; looking for an old name in an output brings a warning."""
    return [name for name in list(output) if name in CACHE_NAMES]


def is_static(cache: Any) -> bool:
    """Whether a cache has its full length from the start (StaticCache, and sliding ones of fixed size)."""
    return bool(getattr(cache, "is_compileable", False))


def grows(cache: Any, config: Any) -> bool:
    """Whether a cache, and one made for this model, keeps all keys of every layer and grows by them."""
    layers = (*getattr(cache, "layers", ()), *DynamicCache(config=config).layers)
    return all(type(layer) is DynamicLayer for layer in layers) and not getattr(cache, "offloading", False)


def select_rows(cache: Any, rows: Int[Tensor, " rows"]) -> None:
    """Let a cache hold these of its rows, in this order; one row, however often, is not copied."""
    chosen, layers = set(rows.tolist()), getattr(cache, "layers", ())
    is_grown = all(type(layer) is DynamicLayer and layer.get_seq_length() for layer in layers)
    if len(chosen) != 1 or not layers or not is_grown or getattr(cache, "offloading", False):
        cache.batch_select_indices(rows)
        return
    for layer in layers:
        parts = (each.narrow(0, int(rows[0]), 1) for each in (layer.keys, layer.values))
        layer.keys, layer.values = (part.expand(len(rows), -1, -1, -1) for part in parts)


def prompt_keepers(model: nn.Module) -> tuple[nn.Module, ...]:
    """Modules that keep a state of the last prompt that was run, as three-dimensional positions do."""
    return tuple(module for module in model.modules() if hasattr(module, "rope_deltas"))


@contextmanager
def kept_prompts(keepers: Collection[nn.Module]) -> Iterator[None]:
    """Put back, at the end, the state of the last prompt that these modules keep now."""
    states = [(module, module.rope_deltas) for module in keepers]
    try:
        yield
    finally:
        for module, state in states:
            module.rope_deltas = state


def has_encoder_outputs(inputs: Mapping[str, Any]) -> bool:
    """Whether features that were encoded ahead are among a forward's inputs."""
    return bool(inputs.get(ENCODER_OUTPUTS))


def without_encoder_outputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A forward's inputs less the features that were encoded ahead."""
    return {name: value for name, value in inputs.items() if name != ENCODER_OUTPUTS}
