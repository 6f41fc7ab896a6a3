"""Inside a vision tower: its layers, their attention, what norms the patches before them, and its class token."""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.models.anatomy.decoder import self_attention
from sightline.models.anatomy.parts import Anatomy

_CLASS_TOKENS = ("class_embedding", "cls_token")
_FIRST_NORMS = ("pre_layrnorm", "pre_layernorm", "ln_pre", "layernorm_pre")


def image_tower(anatomy: Anatomy) -> nn.Module | None:
    """The tower that pictures go through: a model may have another for videos."""
    parts = anatomy.model.named_modules()
    return next((part for name, part in parts if name.rsplit(".", 1)[-1] == "image_tower"), anatomy.vision_tower)


def tower_layers(tower: nn.Module) -> tuple[tuple[nn.Module, Any], ...]:
    """The tower's layers in order, each with its attention module; none where it computes attention of its own."""
    lists = [child for child in tower.modules() if isinstance(child, nn.ModuleList)]
    stacks = [[(block, self_attention(block)) for block in blocks] for blocks in lists]
    whole = (tuple(stack) for stack in stacks if all(attention is not None for _, attention in stack))
    return max(whole, key=len, default=())


def tower_blocks(tower: nn.Module) -> tuple[tuple[nn.Module, Any], ...]:
    """As `tower_layers`; of a tower that computes attention of its own, its longest row of layers, each with None."""
    lists = [tuple(child) for child in tower.modules() if isinstance(child, nn.ModuleList)]
    longest: tuple[nn.Module, ...] = max(lists, key=len, default=())
    return tower_layers(tower) or tuple((block, None) for block in longest)


def has_windows(tower: nn.Module) -> bool:
    """Whether the tower looks through windows, for which it puts its patches in another order."""
    return any(hasattr(part, "get_window_index") or hasattr(part, "fullatt_block_indexes") for part in tower.modules())


def has_class_token(tower: nn.Module | None) -> bool:
    """Whether the tower puts a class token in front of the patches."""
    parts = () if tower is None else tower.named_parameters()
    return any(name.rsplit(".", 1)[-1] in _CLASS_TOKENS for name, _ in parts)


def first_norm(tower: nn.Module | None) -> nn.Module | None:
    """What norms the patches before the first layer, as in CLIP; None where nothing does."""
    parts = () if tower is None else tower.named_modules()
    return next((part for name, part in parts if name.rsplit(".", 1)[-1] in _FIRST_NORMS), None)
