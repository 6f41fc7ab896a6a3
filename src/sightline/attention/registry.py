"""Our names in the registries of Transformers, and the functions that stand behind a model's own."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor, nn

from sightline.attention.call import AttentionFunction
from sightline.errors import ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api import (
    enter_attention,
    has_implementation,
    implementation_name,
    looked_up,
    remove_attention,
    set_implementation,
)

PREFIX = "sightline_"


def attention_configs(anatomy: Anatomy) -> list[Any]:
    """The distinct configuration objects that the decoder and its attention modules look their implementation up in."""
    holders = [anatomy.decoder, *(module for module in anatomy.attentions if module is not None)]
    found = {id(config): config for holder in holders if (config := getattr(holder, "config", None)) is not None}
    found.setdefault(id(anatomy.text_config), anatomy.text_config)
    return [config for config in found.values() if has_implementation(config)]


def implementation_of(config: Any) -> str:
    name = implementation_name(config) or "eager"
    if name.startswith("paged|"):
        raise ModelError(
            f"Attention of kind {name} serves continuous batching and cannot be read: load with sdpa or eager."
        )
    return str(name).removeprefix(PREFIX)


_REGISTERED: Counter[str] = Counter()
"""How many models use our name for an implementation at present."""


def register(implementation: str, function: AttentionFunction) -> None:
    """Enter our name for an implementation in both registries."""
    _REGISTERED[implementation] += 1
    enter_attention(PREFIX + implementation, function, implementation)


def unregister(implementation: str) -> None:
    """Take our name out again when the last model that uses it is done."""
    _REGISTERED[implementation] -= 1
    if not _REGISTERED[implementation]:
        remove_attention(PREFIX + implementation)


def original_function(module: nn.Module, implementation: str) -> AttentionFunction:
    """The function the module would have called, looked up where its own file looks."""
    function: AttentionFunction = looked_up(module, implementation)
    return function if implementation in ("eager", "sdpa") else _under_own_name(function, module, implementation)


def _under_own_name(function: AttentionFunction, module: Any, implementation: str) -> AttentionFunction:
    """FlashAttention asks the configuration which version is meant, so it must find the name it knows there."""

    def call(*args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        lent = implementation_name(module.config)
        set_implementation(module.config, implementation)
        try:
            return function(*args, **options)
        finally:
            set_implementation(module.config, lent)

    return call
