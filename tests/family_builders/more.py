"""Families that no rule was written for: they show that a new one simply works."""

from __future__ import annotations

import torch
from torch import nn

from .core import (
    BREAK_ID,
    END_ID,
    IMAGE_ID,
    SIGLIP,
    START_ID,
    TAG_ID,
    VIDEO_ID,
    Case,
    Family,
    Row,
    from_config,
    image,
    prompts,
    special,
    text_sizes,
    write,
)
from .llava import square_case
from .qwen import MROPE, VISION, grid_case


def build_aya_vision() -> nn.Module:
    return from_config(
        "aya_vision",
        text_config=text_sizes("cohere2", sliding_window=6),
        vision_config={**SIGLIP, "image_size": 32},
        image_token_index=IMAGE_ID,
        adapter_intermediate_size=48,
    )


def build_cohere2_vision() -> nn.Module:
    return from_config(
        "cohere2_vision",
        text_config=text_sizes("cohere2", sliding_window=6),
        vision_config={**SIGLIP, "image_size": 32},
        image_token_id=IMAGE_ID,
        alignment_intermediate_size=48,
    )


def tile_case(batch: int, padding: str | None, images: int) -> Case:
    """Two tiles of an image and a view of it all, each behind a tag of its own, two by two tokens each."""

    def block(sample: int, index: int) -> Row:
        tiles = [special(TAG_ID + tile) + image(4) for tile in range(3)]
        return special(START_ID) + [item for tile in tiles for item in tile] + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    inputs["pixel_values"] = torch.randn(batch * images * 3, 3, 32, 32)
    return Case(inputs, modality, [[(2, 2)] * 3 * images] * batch)


def build_glm4v() -> nn.Module:
    return from_config(
        "glm4v",
        text_config=text_sizes("glm4v_text", rope_parameters={**MROPE, "partial_rotary_factor": 1.0}),
        vision_config={**VISION, "image_size": 32, "out_hidden_size": 32},
        image_token_id=IMAGE_ID,
        video_token_id=VIDEO_ID,
        image_start_token_id=START_ID,
        image_end_token_id=END_ID,
        video_start_token_id=114,
        video_end_token_id=115,
    )


def build_got_ocr2() -> nn.Module:
    return from_config(
        "got_ocr2",
        text_config=text_sizes("qwen2"),
        vision_config={
            "hidden_size": 16,
            "output_channels": 8,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 4,
            "mlp_dim": 24,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        image_token_index=IMAGE_ID,
        image_seq_length=16,
    )


def got_ocr2_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(16)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 64, 64)
    return Case(inputs, modality, [[(4, 4)] * images] * batch)


def build_lfm2_vl() -> nn.Module:
    return from_config(
        "lfm2_vl",
        text_config=text_sizes(
            "lfm2",
            num_hidden_layers=6,
            layer_types=["conv", "full_attention"] * 3,
            conv_L_cache=3,
            block_dim=32,
            block_ff_dim=48,
            conv_dim=32,
            conv_dim_out=32,
        ),
        vision_config={
            "model_type": "siglip2_vision_model",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 4,
            "num_patches": 16,
        },
        image_token_id=IMAGE_ID,
        projector_hidden_size=24,
    )


def lfm2_vl_case(batch: int, padding: str | None, images: int) -> Case:
    """Images of their own shape as padded lists of patches."""
    shapes = [(4, 6), (2, 4), (6, 2)]

    def shape(sample: int, index: int) -> tuple[int, int]:
        return shapes[(index if padding is None else sample + index) % 3]

    def merged(sample: int, index: int) -> tuple[int, int]:
        rows, columns = shape(sample, index)
        return rows // 2, columns // 2

    def block(sample: int, index: int) -> Row:
        rows, columns = merged(sample, index)
        return special(START_ID) + image(rows * columns) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [shape(sample, index) for sample in range(batch) for index in range(images)]
    mask = torch.zeros(len(every), 24, dtype=torch.long)
    for row, (rows, columns) in zip(mask, every, strict=True):
        row[: rows * columns] = 1
    inputs["pixel_values"] = torch.randn(len(every), 24, 3 * 4 * 4)
    inputs["pixel_attention_mask"] = mask
    inputs["spatial_shapes"] = torch.tensor(every)
    return Case(inputs, modality, [[merged(sample, index) for index in range(images)] for sample in range(batch)])


def build_llama4() -> nn.Module:
    return from_config(
        "llama4",
        text_config=text_sizes(
            "llama4_text",
            intermediate_size_mlp=48,
            num_local_experts=2,
            attention_chunk_size=8,
            moe_layers=[1, 3],
            no_rope_layers=[1, 1, 1, 0],
        ),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "vision_output_dim": 16,
            "projector_input_dim": 16,
            "projector_output_dim": 16,
        },
        boi_token_index=START_ID,
        eoi_token_index=END_ID,
        image_token_index=IMAGE_ID,
    )


def build_ovis2() -> nn.Module:
    return from_config(
        "ovis2",
        text_config=text_sizes("qwen2"),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 8,
            "vocab_size": 32,
            "num_visual_indicator_tokens": 5,
        },
        image_token_id=IMAGE_ID,
        visual_indicator_token_ids=[100, 101, 102, 103, 104],
        vocab_size=128,
        hidden_size=32,
    )


def build_fuyu() -> nn.Module:
    return from_config(
        "fuyu", text_config=text_sizes("persimmon"), patch_size=4, image_size=24, image_token_id=IMAGE_ID
    )


def fuyu_case(batch: int, padding: str | None, images: int) -> Case:
    """An image is a list of patches, and every line of them ends in a newline token."""
    inputs, modality = write(prompts(batch, padding, images, lambda *_: (image(3) + special(BREAK_ID)) * 2), padding)
    inputs["pixel_values"] = torch.randn(batch, 6 * images, 3 * 4 * 4)
    return Case(inputs, modality, [[(2, 3)] * images] * batch)


def build_janus() -> nn.Module:
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 24,
        "patch_size": 8,
        "projection_dim": 32,
        "num_image_tokens": 9,
    }
    codes = {"num_embeddings": 16, "base_channels": 32, "latent_channels": 32, "projection_dim": 32, "num_patches": 3}
    return from_config(
        "janus",
        text_config=text_sizes("llama"),
        vision_config=vision,
        vq_config={**codes, "image_token_embed_dim": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1},
        image_token_id=IMAGE_ID,
    )


def build_deepseek_vl() -> nn.Module:
    return from_config("deepseek_vl", text_config=text_sizes("llama"), vision_config=SIGLIP, image_token_id=IMAGE_ID)


def build_video_llama_3() -> nn.Module:
    return from_config(
        "video_llama_3",
        text_config=text_sizes("qwen2"),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 4,
        },
        image_token_id=IMAGE_ID,
        video_token_id=VIDEO_ID,
    )


def video_llama_3_case(batch: int, padding: str | None, images: int) -> Case:
    case = grid_case(batch, padding, images, types=False)
    count = len(case.inputs["image_grid_thw"])
    case.inputs["image_merge_sizes"] = torch.full((count,), 2)
    case.inputs["pixel_values"] = torch.randn(len(case.inputs["pixel_values"]), 3 * 4 * 4)
    return case


CODES = [("A", one) for one in "ABCDEFGHIJ"] + [("B", one) for one in "ABCDEF"]
"""Sixteen numbers in letters, A for 0."""


def build_chameleon() -> nn.Module:
    return from_config(
        "chameleon",
        **{name: value for name, value in text_sizes("").items() if name not in ("model_type", "head_dim")},
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 16,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "resolution": 6,
        },
        vocabulary_map={
            "<image>": IMAGE_ID,
            **{f"IMGIMGAA{tens}{ones}Z": 80 + place for place, (tens, ones) in enumerate(CODES)},
        },
    )


def chameleon_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(9)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 6, 6)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


def build_lighton_ocr() -> nn.Module:
    return from_config(
        "lighton_ocr",
        text_config=text_sizes("qwen3"),
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 4,
            "head_dim": 8,
        },
        image_token_id=IMAGE_ID,
        spatial_merge_size=2,
    )


def lighton_case(batch: int, padding: str | None, images: int) -> Case:
    """Images of their own shape, without break tokens."""
    sizes = [(16, 24), (24, 16), (16, 16)]

    def size(sample: int, index: int) -> tuple[int, int]:
        return sizes[(index if padding is None else sample + index) % 3]

    def grid(sample: int, index: int) -> tuple[int, int]:
        height, width = size(sample, index)
        return height // 8, width // 8

    def block(sample: int, index: int) -> Row:
        rows, columns = grid(sample, index)
        return image(rows * columns)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [size(sample, index) for sample in range(batch) for index in range(images)]
    inputs["pixel_values"] = torch.randn(len(every), 3, max(h for h, _ in every), max(w for _, w in every))
    inputs["image_sizes"] = torch.tensor(every)
    return Case(inputs, modality, [[grid(sample, index) for index in range(images)] for sample in range(batch)])


FAMILIES = [
    Family("aya_vision", build_aya_vision, tile_case, tags=frozenset({"sliding"})),
    Family("cohere2_vision", build_cohere2_vision, tile_case, tags=frozenset({"sliding"})),
    Family("glm4v", build_glm4v, grid_case),
    Family("got_ocr2", build_got_ocr2, got_ocr2_case),
    Family("lfm2_vl", build_lfm2_vl, lfm2_vl_case, layers_without_attention=(0, 2, 4)),
    Family("llama4", build_llama4, tile_case, tags=frozenset({"chunked"})),
    Family("ovis2", build_ovis2, square_case),
    Family("fuyu", build_fuyu, fuyu_case, tags=frozenset({"no_tower"})),
    Family("janus", build_janus, square_case),
    Family("deepseek_vl", build_deepseek_vl, square_case),
    Family("video_llama_3", build_video_llama_3, video_llama_3_case),
    Family("chameleon", build_chameleon, chameleon_case, tags=frozenset({"no_projector"})),
    Family("lighton_ocr", build_lighton_ocr, lighton_case),
]
