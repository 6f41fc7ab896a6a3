"""More families that no rule was written for: omni models, sound, lists of patches, class tokens, video frames."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from .core import (
    AUDIO,
    AUDIO_ID,
    CLIP,
    END_ID,
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
    video,
    write,
)
from .llava import LAST_BUT_ONE, PINPOINTS
from .qwen import AUDIO_ENCODER, DEEPSTACK, MROPE, TOKENS, VISION, grid_case


def build_llava_with_class_token() -> nn.Module:
    return from_config(
        "llava",
        text_config=text_sizes("llama"),
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="full",
    )


def class_token_case(batch: int, padding: str | None, images: int) -> Case:
    """The tower's class token stands in front of the nine patches."""
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(10)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)


def build_llava_next_video() -> nn.Module:
    return from_config(
        "llava_next_video",
        text_config=text_sizes("llama"),
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        image_grid_pinpoints=PINPOINTS,
        spatial_pool_stride=1,
        **LAST_BUT_ONE,
    )


def frames_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: video(3 * 9)), padding)
    inputs["pixel_values_videos"] = torch.randn(batch * images, 3, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * 3 * images] * batch)


def build_qwen3_omni() -> nn.Module:
    from transformers import AutoConfig, Qwen3OmniMoeThinkerForConditionalGeneration

    config = AutoConfig.for_model(
        "qwen3_omni_moe_thinker",
        text_config=text_sizes(
            "qwen3_omni_moe_text",
            rope_parameters={**MROPE, "mrope_interleaved": True},
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=24,
        ),
        vision_config={**VISION, **DEEPSTACK},
        audio_config={
            **AUDIO_ENCODER,
            "output_dim": 32,
            "n_window": 10,
            "max_source_positions": 40,
            "downsample_hidden_size": 8,
        },
        audio_token_id=AUDIO_ID,
        audio_start_token_id=114,
        audio_end_token_id=115,
        **TOKENS,
    )
    return seeded(lambda: Qwen3OmniMoeThinkerForConditionalGeneration._from_config(config))


def build_minicpmv() -> nn.Module:
    return from_config(
        "minicpmv4_6",
        text_config=text_sizes("qwen3"),
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 4,
            "insert_layer_id": 1,
        },
        insert_layer_id=1,
        image_size=64,
        image_token_id=IMAGE_ID,
        video_token_id=VIDEO_ID,
    )


def minicpmv_case(batch: int, padding: str | None, images: int) -> Case:
    """All patches of all images in one list; four by four become a token."""
    sizes = [(8, 12), (12, 8), (8, 8)]

    def size(sample: int, index: int) -> tuple[int, int]:
        return sizes[(index if padding is None else sample + index) % 3]

    def block(sample: int, index: int) -> Row:
        rows, columns = size(sample, index)
        return special(START_ID) + image(rows * columns // 16) + special(END_ID)

    inputs, modality = write(prompts(batch, padding, images, block), padding)
    every = [size(sample, index) for sample in range(batch) for index in range(images)]
    inputs["target_sizes"] = torch.tensor(every, dtype=torch.int32)
    inputs["pixel_values"] = torch.randn(1, 3, 4, 4 * sum(rows * columns for rows, columns in every))
    grids = [[size(sample, index) for index in range(images)] for sample in range(batch)]
    return Case(inputs, modality, [[(rows // 4, columns // 4) for rows, columns in row] for row in grids])


def build_voxtral() -> nn.Module:
    from transformers import AutoConfig, VoxtralForConditionalGeneration

    config = AutoConfig.for_model(
        "voxtral",
        text_config=text_sizes("llama"),
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_mel_bins": 8,
            "max_source_positions": 20,
        },
        audio_token_id=AUDIO_ID,
    )
    return seeded(lambda: VoxtralForConditionalGeneration._from_config(config))


def voxtral_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, images, lambda *_: audio(5)), padding)
    inputs["input_features"] = torch.randn(batch * images, 8, 40)
    return Case(inputs, modality)


FAMILIES = [
    Family("llava_with_class_token", build_llava_with_class_token, class_token_case),
    Family("llava_next_video", build_llava_next_video, frames_case, VIDEO),
    Family("qwen3_omni_moe_thinker", build_qwen3_omni, partial(grid_case, types=False)),
    Family("minicpmv4_6", build_minicpmv, minicpmv_case),
    Family("voxtral", build_voxtral, voxtral_case, AUDIO),
]
