"""The text decoder inside a model: the owner of the layers whose attention reads a prompt and writes an answer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

from torch import nn

from sightline.errors import ModelError
from sightline.models.anatomy.configuration import value_of
from sightline.models.transformers_api.attention import LOOKUP
from sightline.text import ranges


def find_decoder(model: nn.Module, embedding: Any) -> tuple[str, nn.Module, tuple[nn.Module, ...]]:
    """The owner of the layers the text runs through: (dotted name, module, layers).

    Layers that keep a cache come first, then those at the embedding's width, then the nearest to the embedding, then
    the longest list.

    Raises:
        ModelError: when no layers go through the attention interface, or the model does not generate text.
    """
    name = type(model).__name__
    width = getattr(getattr(embedding, "weight", None), "shape", (None,))[-1]
    place = next((name for name, module in model.named_modules() if module is embedding), "")
    best: tuple[tuple[bool, bool, int, int], str, nn.Module, tuple[nn.Module, ...]] | None = None
    for path, owner in model.named_modules():
        for layers in (child for child in owner.children() if isinstance(child, nn.ModuleList)):
            found = [attention for attention in map(self_attention, layers) if attention is not None]
            if not found:
                continue
            rank = (
                all(_takes_cache(attention) for attention in found),
                width is None or value_of(found[0].config, "hidden_size", width) == width,
                _shared_depth(path, place),
                len(layers),
            )
            if best is None or rank > best[0]:
                best = rank, path, owner, tuple(layers)
    if best is None or not best[0][0]:
        raise ModelError(
            f"{name} has no text layers whose attention goes through the attention interface of Transformers, so its "
            "attention cannot be read."
        )
    attention = next(filter(None, map(self_attention, best[3])))
    generates = getattr(attention, "is_causal", False) or call_or_none(model, "can_generate")
    if not generates or getattr(attention, "is_decoder", True) is False:
        raise ModelError(
            f"{name} does not generate text: Sightline reads causal language models and vision-language models built "
            "on them."
        )
    return best[1:]


def refuse_cross_attention(name: str, decoder: nn.Module, layers: tuple[nn.Module, ...]) -> None:
    """ModelError when the decoder reads anything but its own sequence."""
    crossed = [index for index, layer in enumerate(layers) if any(_is_cross(module) for module in layer.modules())]
    if crossed or any(_is_cross(module) for module in decoder.modules() if _uses_interface(module)):
        where = f" ({'layer' if len(crossed) == 1 else 'layers'} {ranges(crossed)})" if crossed else ""
        raise ModelError(
            f"{name} reads its image, or another sequence, by cross-attention{where}: Sightline reads models where "
            "image and text share one sequence."
        )


def self_attention(layer: nn.Module) -> Any:
    """The self-attention module of a layer that goes through the attention interface, or None."""
    found = (module for module in layer.modules() if _uses_interface(module) and not _is_cross(module))
    return next(found, None)


def call_or_none(model: Any, method: str) -> Any:
    """What a method without arguments answers, or None where there is none or it does not apply."""
    try:
        return getattr(model, method)()
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _uses_interface(module: nn.Module) -> bool:
    kind: Any = type(module)
    return hasattr(module, "config") and _class_uses_interface(kind)


@cache
def _class_uses_interface(kind: Any) -> bool:
    """Whether the forward of a class looks its attention function up in the attention interface."""
    code = getattr(inspect.unwrap(kind.forward), "__code__", None)
    return code is not None and any(LOOKUP in names for names in _names_in(code))


def _names_in(code: CodeType) -> Iterator[tuple[str, ...]]:
    yield code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _takes_cache(attention: Any) -> bool:
    """Whether the attention keeps keys and values of earlier steps, as a tower's never does."""
    names = inspect.signature(type(attention).forward).parameters
    return any("past" in name or "cache" in name for name in names)


def _is_cross(module: nn.Module) -> bool:
    return "cross" in type(module).__name__.lower() or bool(getattr(module, "is_cross_attention", False))


def _shared_depth(name: str, other: str) -> int:
    """How many leading parts two dotted names share."""
    depth = 0
    for mine, theirs in zip(name.split("."), other.split("."), strict=False):
        if mine != theirs:
            break
        depth += 1
    return depth
