"""Every name of Transformers that is private or may be renamed, and what its releases do differently.

Nothing else in Sightline spells such a name (a test looks for them), so that a new release is met in this file alone.
Where a release does what this file does not know, a `ModelError` says so: a number read past it would be wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from transformers import Cache, GenerationMixin, LogitsProcessorList
from transformers import __version__ as RELEASE
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sightline.errors import ModelError

__all__ = ["RELEASE", "Cache", "GenerationMixin", "LogitsProcessorList"]

OLDEST, NEWEST = (5, 17), (5, 24)
"""The first and the last minor release that the tests passed on."""

CACHE_NAMES = ("cache", "past_key_values")
"""What a forward calls its cache: the first since 5.24, the second before; files loaded from a hub may keep either."""

ENCODER_OUTPUTS = "mm_encoder_outputs"
"""Features of images, encoded ahead of the forward; since 5.23."""

LOOKUP = "ALL_ATTENTION_FUNCTIONS"
"""The global through which an attention module looks up its attention function."""

_EAGER_NAMES = ("eager_attention_forward", "text_eager_attention_forward", "simple_eager_attention_forward")


def release_warning(release: str = RELEASE) -> str | None:
    """A sentence where this release of Transformers is none that the tests passed on, else None."""
    minor = tuple(int(part) for part in release.split(".")[:2] if part.isdigit())
    if OLDEST <= minor <= NEWEST:
        return None
    tested = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    return (
        f"Transformers {release} is installed, and Sightline was tested with {tested}: what it does not know there it "
        f"refuses, and `vlm.check()` looks whether a model is read rightly."
    )


# The cache


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
    """A forward's inputs with this cache, under the name that the module's forward gives it."""
    return {**without_cache(inputs), cache_name(module): cache}


def cache_name(module: nn.Module) -> str:
    """What the module's forward calls its cache.

    Raises:
        ModelError: where it takes one under no name that a tested release uses.
    """
    parameters = inspect.signature(inspect.unwrap(type(module).forward)).parameters
    found = next((name for name in CACHE_NAMES if name in parameters), None)
    if found is None:
        raise ModelError(
            f"The forward of {type(module).__name__} takes its cache as neither {' nor '.join(map(repr, CACHE_NAMES))}:"
            f" this release of Transformers, {RELEASE}, or the model's own code can't be read."
        )
    return found


def cache_from(output: Any) -> Any:
    """The cache that a forward pass gave back; None where it gave none."""
    return next((found for name in CACHE_NAMES if (found := getattr(output, name, None)) is not None), None)


def is_static(cache: Any) -> bool:
    """Whether a cache has its full length from the start (StaticCache, and sliding ones of fixed size)."""
    return bool(getattr(cache, "is_compileable", False))


def without_encoder_outputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A forward's inputs less the features that were encoded ahead."""
    return {name: value for name, value in inputs.items() if name != ENCODER_OUTPUTS}


# The attention registries


def implementation_name(config: Any) -> str | None:
    """The name by which modules of this configuration look their attention up; None where none is set yet."""
    return config._attn_implementation_internal  # type: ignore[no-any-return]


def has_implementation(config: Any) -> bool:
    """Whether the configuration names an attention implementation."""
    return hasattr(config, "_attn_implementation_internal")


def set_implementation(config: Any, name: str | None) -> None:
    """Let modules of this configuration look their attention up under `name`; its parts keep their own."""
    config._attn_implementation_internal = name


def enter_attention(name: str, function: Callable[..., Any], implementation: str) -> None:
    """Enter an attention function in the registry, with the mask function of a known implementation beside it."""
    type(ALL_ATTENTION_FUNCTIONS)._global_mapping[name] = function
    # Without a mask function of its own a custom name would silently lose the causal mask.
    if implementation in ALL_MASK_ATTENTION_FUNCTIONS:
        type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping[name] = ALL_MASK_ATTENTION_FUNCTIONS[implementation]


def remove_attention(name: str) -> None:
    """Take a name out of both registries."""
    type(ALL_ATTENTION_FUNCTIONS)._global_mapping.pop(name, None)
    type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping.pop(name, None)


def looked_up(module: nn.Module, implementation: str) -> Callable[..., Any]:
    """The attention function that the module would call, looked up where its own file looks.

    Raises:
        ModelError: for eager attention in a file that has no such function.
    """
    names = inspect.unwrap(type(module).forward).__globals__
    if implementation == "eager":
        for name in _EAGER_NAMES:
            if name in names:
                return names[name]  # type: ignore[no-any-return]
        raise ModelError(f"{type(module).__name__} has no eager attention function to call: load the model with sdpa.")
    return names[LOOKUP][implementation]  # type: ignore[no-any-return]
