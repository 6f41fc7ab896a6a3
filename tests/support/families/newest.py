"""Families of the newest releases, made small from their own default configurations; no rule was written for them."""

from __future__ import annotations

from functools import partial

from .core import Case, Family
from .llava import anyres_case
from .qwen import grid_case


def flat_case(batch: int, padding: str | None, images: int, types: bool = True) -> Case:
    """As Qwen's, of patches [patches, channels, side, side] of one frame."""
    case = grid_case(batch, padding, images, types=types)
    pixels = case.inputs["pixel_values"][:, :48].reshape(-1, 3, 4, 4)
    return Case({**case.inputs, "pixel_values": pixels}, case.modality, case.grids)


untyped = partial(grid_case, types=False)

FAMILIES = [
    Family("granite4_vision", anyres_case),
    Family("glm46v", grid_case),
    Family("glm4v_moe", grid_case),
    Family("glm_ocr", grid_case),
    Family("paddleocr_vl", flat_case),
    Family("exaone4_5", untyped),
    Family("lfm3_vl", untyped, layers_without_attention=(0, 3)),
    Family("qwen3_5_moe", grid_case, layers_without_attention=(0, 2)),
    Family("kimi_k25", partial(flat_case, types=False)),
]
