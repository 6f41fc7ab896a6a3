"""Where attention modules look up their attention functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sightline.errors import ModelError

LOOKUP = "ALL_ATTENTION_FUNCTIONS"
"""The global through which an attention module looks up its attention function."""


def implementation_name(config: Any) -> str | None:
    """The name by which modules of this configuration look their attention up; None where none is set yet."""
    return config._attn_implementation_internal  # type: ignore[no-any-return]


def require_readable(module: nn.Module) -> None:
    """ModelError for an attention module whose function is not looked up under a name, or serves packed sequences."""
    config = getattr(module, "config", None)
    looked_up = LOOKUP in inspect.unwrap(type(module).forward).__globals__
    if not looked_up or not hasattr(config, "_attn_implementation_internal"):
        raise ModelError(
            f"{type(module).__name__} does not look its attention up in the interface of Transformers, so nothing can "
            "be read or changed."
        )
    name = str(implementation_name(config))
    if name.startswith("paged|"):
        raise ModelError(
            f"Attention of kind {name} serves continuous batching and can't be read: load with sdpa or eager."
        )


def value_projection(module: nn.Module) -> nn.Linear | None:
    """What makes an attention module's values; None where one projection makes them with queries or keys."""
    found = getattr(module, "v_proj", None)
    return found if isinstance(found, nn.Linear) else None


def selects_keys(module: nn.Module) -> bool:
    """Whether an attention module looks at keys that an indexer selects, its own or that of a layer before."""
    return hasattr(module, "indexer")


def open_attention_door(make: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Let every attention module find `make(implementation, function)` where it looks for its attention function.

    Its configuration keeps its own name: modules choose masks by it, and models with an indexer how they select keys.
    """
    kind: Any = type(ALL_ATTENTION_FUNCTIONS)
    own = kind.get_interface

    @functools.wraps(own)
    def get_interface(registry: Any, name: str | None, default: Callable[..., Any]) -> Callable[..., Any]:
        return make(name or "eager", own(registry, name, default))

    kind.get_interface = get_interface


def close_attention_door() -> None:
    """Let modules find their attention functions as they are."""
    kind: Any = type(ALL_ATTENTION_FUNCTIONS)
    kind.get_interface = kind.get_interface.__wrapped__
