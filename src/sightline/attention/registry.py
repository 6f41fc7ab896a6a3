"""Our names in the registries of Transformers, and the functions that stand behind a model's own."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

from torch import Tensor, nn

from sightline.anatomy import Anatomy
from sightline.attention.call import AttentionFunction
from sightline.errors import ModelError

PREFIX = "sightline_"


def attention_configs(anatomy: Anatomy) -> list[Any]:
    """The distinct configuration objects that the decoder and its attention modules look their implementation up in."""
    holders = [anatomy.decoder, *(module for module in anatomy.attentions if module is not None)]
    found = {id(config): config for holder in holders if (config := getattr(holder, "config", None)) is not None}
    found.setdefault(id(anatomy.text_config), anatomy.text_config)
    return [config for config in found.values() if hasattr(config, "_attn_implementation_internal")]


def implementation_of(config: Any) -> str:
    name = config._attn_implementation_internal or "eager"
    if name.startswith("paged|"):
        raise ModelError(
            f"Attention of kind {name} serves continuous batching and cannot be read: load with sdpa or eager."
        )
    return str(name).removeprefix(PREFIX)


_REGISTERED: Counter[str] = Counter()
"""How many models use our name for an implementation at present."""


def register(implementation: str, function: AttentionFunction) -> None:
    """Enter our name for an implementation in both registries."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    _REGISTERED[implementation] += 1
    name = PREFIX + implementation
    attention, masks = type(ALL_ATTENTION_FUNCTIONS)._global_mapping, type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping
    attention[name] = function
    # Without a mask function of its own a custom name would silently lose the causal mask.
    if implementation in ALL_MASK_ATTENTION_FUNCTIONS:
        masks[name] = ALL_MASK_ATTENTION_FUNCTIONS[implementation]


def unregister(implementation: str) -> None:
    """Take our name out again when the last model that uses it is done."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    _REGISTERED[implementation] -= 1
    if not _REGISTERED[implementation]:
        type(ALL_ATTENTION_FUNCTIONS)._global_mapping.pop(PREFIX + implementation, None)
        type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping.pop(PREFIX + implementation, None)


def original_function(module: nn.Module, implementation: str) -> AttentionFunction:
    """The function the module would have called, looked up where its own file looks."""
    names = inspect.unwrap(type(module).forward).__globals__
    if implementation == "eager":
        for name in ("eager_attention_forward", "text_eager_attention_forward", "simple_eager_attention_forward"):
            if name in names:
                return names[name]  # type: ignore[no-any-return]
        raise ModelError(f"{type(module).__name__} has no eager attention function to call: load the model with sdpa.")
    function: AttentionFunction = names["ALL_ATTENTION_FUNCTIONS"][implementation]
    return function if implementation == "sdpa" else _under_own_name(function, module, implementation)


def _under_own_name(function: AttentionFunction, module: Any, implementation: str) -> AttentionFunction:
    """FlashAttention asks the configuration which version is meant, so it must find the name it knows there."""

    def call(*args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        lent = module.config._attn_implementation_internal
        module.config._attn_implementation_internal = implementation
        try:
            return function(*args, **options)
        finally:
            module.config._attn_implementation_internal = lent

    return call
