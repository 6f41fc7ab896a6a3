"""Which group of keys each position of a prompt belongs to: modalities, each image, sinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline.attention import AttentionCall
from sightline.models.layout import Modality, TokenLayout
from sightline.probes.dominance.masses import PART, SINKS, is_modality

if TYPE_CHECKING:
    pass

_MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)


_BLOCK = 256
"""Rows whose selected keys are looked at together."""


def membership_of(layout: TokenLayout, has_sinks: bool) -> tuple[tuple[str, ...], Tensor]:
    """The groups of keys that a prompt has, and [batch, positions, groups] telling which position is in which.

    has_sinks: every modality has its sinks, which a layer fills in; else there are those of the text, its BOS.
    """
    names, planes = [], []
    for modality in _MODALITIES:
        plane = layout.modality == int(modality)
        if modality is Modality.TEXT or bool(plane.any()):
            names.append(modality.name.lower())
            planes.append(plane)
    for image in _images(layout):
        names.append(f"{image.modality.name.lower()}{PART}{image.index}")
        planes.append(image.plane)
    sinks = layout.bos & (layout.modality == int(Modality.TEXT))
    others = [] if not has_sinks else [name for name in names[1:] if PART not in name]
    names += [name + SINKS for name in (names[0], *others)]
    planes += [sinks, *(torch.zeros_like(sinks) for _ in others)]
    return tuple(names), torch.stack(planes, -1).float()


def selected_shares(call: AttentionCall, rows: Tensor, member: Tensor, groups: tuple[str, ...]) -> Tensor:
    """[batch, heads, rows, groups]: the share of each group among the input keys that each row may see."""
    base = [index for index, name in enumerate(groups) if is_modality(name)]
    parts = []
    for block in torch.split(rows.to(call.query.device), _BLOCK):
        counts = torch.einsum("bhrk,bkg->bhrg", call.visible(block).to(member.dtype), member)
        parts.append(counts / counts[..., base].sum(-1, keepdim=True).clamp(min=1))
    return torch.cat(parts, 2).expand(len(member), call.heads, -1, -1)


@dataclass(frozen=True)
class _Image:
    modality: Modality
    index: int
    plane: Tensor


def _images(layout: TokenLayout) -> list[_Image]:
    """The tokens of each image and video, where some prompt has several."""
    planes: dict[tuple[Modality, int], Tensor] = {}
    for sample, grids in enumerate(layout.grids):
        for grid in grids:
            key = grid.modality, grid.index
            plane = planes.setdefault(key, torch.zeros(layout.modality.shape, dtype=torch.bool))
            plane[sample, grid.positions[grid.positions >= 0]] = True
    several = {modality for modality, index in planes if index}
    return [_Image(*key, plane) for key, plane in sorted(planes.items()) if key[0] in several]


def with_sinks(groups: tuple[str, ...], membership: Tensor, marks: Tensor) -> Tensor:
    """The membership in a layer whose sinks are `marks` [batch, positions]; BOS stays one."""
    found = membership.clone()
    for index, name in enumerate(groups):
        if name.endswith(SINKS):
            own = membership[..., groups.index(name.removesuffix(SINKS))]
            found[..., index] = torch.maximum(found[..., index], own * marks)
    return found
