"""Qwen's families: image grids in the inputs, patches merged two by two, positions in three dimensions."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from .core import (
    AUDIO,
    AUDIO_ID,
    END_ID,
    IMAGE,
    IMAGE_ID,
    START_ID,
    VIDEO,
    VIDEO_ID,
    Case,
    Family,
    Row,
    audio,
    from_config,
    image,
    prompts,
    seeded,
    special,
    text_sizes,
    token_types,
    video,
    write,
)

GRIDS = [(4, 6), (6, 4), (4, 4), (2, 6)]
"""Rows and columns of patches before merging, by sample and image in turn."""

MROPE: dict[str, Any] = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
TOKENS = {
    "image_token_id": IMAGE_ID,
    "video_token_id": VIDEO_ID,
    "vision_start_token_id": START_ID,
    "vision_end_token_id": END_ID,
}
VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "out_hidden_size": 32,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
DEEPSTACK = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}


def build_qwen2_vl() -> nn.Module:
    vision = {name: value for name, value in VISION.items() if name not in ("out_hidden_size", "intermediate_size")}
    return from_config(
        "qwen2_vl",
        text_config=text_sizes("qwen2_vl_text", rope_parameters=MROPE),
        vision_config={**vision, "hidden_size": 32, "embed_dim": 16, "mlp_ratio": 2},
        **TOKENS,
    )


def build_qwen2_5_vl() -> nn.Module:
    return from_config(
        "qwen2_5_vl",
        text_config=text_sizes("qwen2_5_vl_text", rope_parameters=MROPE),
        vision_config={**VISION, "window_size": 16, "fullatt_block_indexes": [1]},
        **TOKENS,
    )


def build_qwen3_vl() -> nn.Module:
    return from_config(
        "qwen3_vl",
        text_config=text_sizes("qwen3_vl_text", rope_parameters={**MROPE, "mrope_interleaved": True}),
        vision_config={**VISION, **DEEPSTACK},
        **TOKENS,
    )


def build_qwen3_vl_moe() -> nn.Module:
    return from_config(
        "qwen3_vl_moe",
        text_config=text_sizes(
            "qwen3_vl_moe_text",
            rope_parameters={**MROPE, "mrope_interleaved": True},
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
        ),
        vision_config={**VISION, **DEEPSTACK},
        **TOKENS,
    )


def build_qwen3_5() -> nn.Module:
    return from_config(
        "qwen3_5",
        text_config=text_sizes(
            "qwen3_5_text",
            num_hidden_layers=6,
            layer_types=["linear_attention", "full_attention"] * 3,
            head_dim=16,
            rope_parameters={**MROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.5},
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
        ),
        vision_config={**VISION, "num_position_embeddings": 64},
        **TOKENS,
    )


def grid_case(batch: int, padding: str | None, images: int, types: bool = True) -> Case:
    """Images of several shapes in one batch, as `image_grid_thw` tells them."""

    def grid(sample: int, index: int) -> tuple[int, int]:
        return GRIDS[(index if padding is None else sample + index) % len(GRIDS)]

    def block(sample: int, index: int) -> Row:
        rows, columns = grid(sample, index)
        return special(START_ID) + image(rows * columns // 4) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block, bos=False), padding)
    grids = [[grid(sample, index) for index in range(images)] for sample in range(batch)]
    inputs["image_grid_thw"] = torch.tensor([[1, *size] for row in grids for size in row])
    patches = sum(rows * columns for row in grids for rows, columns in row)
    inputs["pixel_values"] = torch.randn(patches, 3 * 2 * 4 * 4)
    if types:
        inputs["mm_token_type_ids"] = token_types(modality, {IMAGE: 1, VIDEO: 2})
    return Case(inputs, modality, [[(rows // 2, columns // 2) for rows, columns in row] for row in grids])


def video_case(batch: int, padding: str | None, images: int, stamps: bool = False) -> Case:
    """Videos of three temporal patches; with `stamps`, each frame is a run of its own behind a time in text."""
    frames, (rows, columns) = 3, (4, 6)
    tokens = rows * columns // 4

    def block(sample: int, index: int) -> Row:
        if stamps:
            return [
                part
                for frame in range(frames)
                for part in special(50 + frame, START_ID) + video(tokens) + special(END_ID)
            ]
        return special(START_ID) + video(frames * tokens) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block, bos=False), padding)
    count = batch * images
    inputs["video_grid_thw"] = torch.tensor([[frames, rows, columns]] * count)
    inputs["pixel_values_videos"] = torch.randn(count * frames * rows * columns, 3 * 2 * 4 * 4)
    inputs["mm_token_type_ids"] = token_types(modality, {IMAGE: 1, VIDEO: 2})
    return Case(inputs, modality, [[(rows // 2, columns // 2)] * frames * images] * batch)


AUDIO_ENCODER: dict[str, Any] = {
    "num_mel_bins": 8,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "d_model": 16,
}


def build_qwen2_audio() -> nn.Module:
    from transformers import AutoConfig, Qwen2AudioForConditionalGeneration

    config = AutoConfig.for_model(
        "qwen2_audio",
        text_config=text_sizes("qwen2"),
        audio_config={**AUDIO_ENCODER, "model_type": "qwen2_audio_encoder", "max_source_positions": 20},
        audio_token_index=AUDIO_ID,
    )
    return seeded(lambda: Qwen2AudioForConditionalGeneration._from_config(config))


def audio_case(batch: int, padding: str | None, images: int) -> Case:
    """Clips of 40 mel frames, of which the encoder makes 20 and its pooling 10 tokens; the second is shorter."""
    tokens = [10, 10] if padding is None else [10, 7]

    def block(sample: int, index: int) -> Row:
        return special(START_ID) + audio(tokens[(sample + index) % 2]) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    inputs["input_features"] = torch.randn(batch * images, 8, 40)
    mask = torch.zeros(batch * images, 40, dtype=torch.long)
    for row, (sample, index) in zip(mask, ((s, i) for s in range(batch) for i in range(images)), strict=True):
        row[: tokens[(sample + index) % 2] * 4] = 1
    inputs["feature_attention_mask"] = mask
    return Case(inputs, modality)


def thinker_config() -> dict[str, Any]:
    return {
        "text_config": text_sizes("qwen2_5_omni_text", rope_parameters=MROPE),
        "vision_config": {**VISION, "window_size": 16, "fullatt_block_indexes": [1]},
        "audio_config": {**AUDIO_ENCODER, "output_dim": 32, "n_window": 10, "max_source_positions": 40},
        "image_token_index": IMAGE_ID,
        "video_token_index": VIDEO_ID,
        "audio_token_index": AUDIO_ID,
        "vision_start_token_id": START_ID,
        "vision_end_token_id": END_ID,
        "audio_start_token_id": 114,
        "audio_end_token_id": 115,
    }


def build_thinker() -> nn.Module:
    from transformers import AutoConfig, Qwen2_5OmniThinkerForConditionalGeneration

    config = AutoConfig.for_model("qwen2_5_omni_thinker", **thinker_config())
    return seeded(lambda: Qwen2_5OmniThinkerForConditionalGeneration._from_config(config))


FAMILIES = [
    Family("qwen2_vl", build_qwen2_vl, grid_case),
    Family("qwen2_5_vl", build_qwen2_5_vl, grid_case),
    Family("qwen2_5_vl_video", build_qwen2_5_vl, video_case, VIDEO),
    Family("qwen3_vl", build_qwen3_vl, grid_case),
    Family("qwen3_vl_video", build_qwen3_vl, partial(video_case, stamps=True), VIDEO),
    Family("qwen3_vl_moe", build_qwen3_vl_moe, grid_case),
    Family("qwen3_5", build_qwen3_5, grid_case, layers_without_attention=(0, 2, 4)),
    Family("qwen2_audio", build_qwen2_audio, audio_case, AUDIO),
    Family("qwen2_5_omni_thinker", build_thinker, partial(grid_case, types=False)),
]
