"""Families of the newest releases, made small from their own default configurations; no rule was written for them."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from .core import END_ID, IMAGE_ID, START_ID, VIDEO_ID, Case, Family, from_config, text_sizes
from .qwen import MROPE, VISION, grid_case
from .shrunk import shrunk

MERGED: dict[str, Any] = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32}
TURNED = {"rope_parameters": {**MROPE, "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}}
PLACES = {"image_token_id": IMAGE_ID, "video_token_id": VIDEO_ID}
BRACKETS = {
    "image_start_token_id": START_ID,
    "image_end_token_id": END_ID,
    "video_start_token_id": 114,
    "video_end_token_id": 115,
}


def build_glm46v() -> nn.Module:
    return from_config(
        "glm46v",
        text_config=text_sizes("glm4v_text", rope_parameters={**MROPE, "partial_rotary_factor": 1.0}),
        vision_config={**VISION, "image_size": 32, "out_hidden_size": 32},
        **PLACES,
        **BRACKETS,
    )


def flat_case(batch: int, padding: str | None, images: int, types: bool = True) -> Case:
    """As Qwen's, of patches [patches, channels, side, side] of one frame."""
    case = grid_case(batch, padding, images, types=types)
    pixels = case.inputs["pixel_values"][:, :48].reshape(-1, 3, 4, 4)
    return Case({**case.inputs, "pixel_values": pixels}, case.modality, case.grids)


untyped = partial(grid_case, types=False)

FAMILIES = [
    Family("glm46v", build_glm46v, grid_case),
    Family("glm4v_moe", partial(shrunk, "glm4v_moe", MERGED, TURNED, **PLACES, **BRACKETS), grid_case),
    Family("glm_ocr", partial(shrunk, "glm_ocr", MERGED, TURNED, **PLACES, **BRACKETS), grid_case),
    Family("paddleocr_vl", partial(shrunk, "paddleocr_vl", MERGED, TURNED, **PLACES), flat_case),
    Family("exaone4_5", partial(shrunk, "exaone4_5", MERGED, **PLACES), untyped),
    Family(
        "lfm3_vl",
        partial(shrunk, "lfm3_vl", MERGED, **PLACES),
        untyped,
        layers_without_attention=(0, 3),
    ),
    Family("qwen3_5_moe", partial(shrunk, "qwen3_5_moe", MERGED, **PLACES), grid_case, layers_without_attention=(0, 2)),
    Family(
        "kimi_k25",
        partial(shrunk, "kimi_k25", {**MERGED, "hidden_size": 32}, projection_hidden_size=32, **PLACES),
        partial(flat_case, types=False),
    ),
]
