"""What a method could leave behind on a model."""

from __future__ import annotations

from typing import Any

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def state_of(model: Any) -> list[Any]:
    """What a method could leave behind: hooks, shadowed methods, names, and the registries of Transformers."""
    hooks = [(list(part._forward_pre_hooks), list(part._forward_hooks)) for part in model.modules()]
    names = [part.config._attn_implementation for part in model.modules() if hasattr(part, "config")]
    own = [sorted(name for name, value in part.__dict__.items() if callable(value)) for part in model.modules()]
    doors = [type(ALL_ATTENTION_FUNCTIONS).get_interface]
    return [hooks, names, own, doors, sorted(ALL_ATTENTION_FUNCTIONS), sorted(ALL_MASK_ATTENTION_FUNCTIONS)]
