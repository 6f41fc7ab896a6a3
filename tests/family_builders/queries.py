"""Families whose image tokens are learned queries, each of which sees the whole image: they have no patch grid."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .core import CLIP, IMAGE, IMAGE_ID, Case, Family, from_config, image, prompts, text_sizes, token_types, write


def build_aria() -> nn.Module:
    return from_config(
        "aria",
        text_config=text_sizes("aria_text", moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
        vision_config={
            "model_type": "idefics3_vision",
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 24,
            "patch_size": 8,
        },
        projector_patch_to_query_dict={9: 4},
        image_token_index=IMAGE_ID,
    )


def aria_case(batch: int, padding: str | None, images: int) -> Case:
    """Four learned queries an image: as many as two by two patches would be, and no patches."""
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(4)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    inputs["pixel_mask"] = torch.ones(batch * images, 24, 24, dtype=torch.bool)
    return Case(inputs, modality, [[]] * batch)


def build_kosmos2() -> nn.Module:
    return from_config(
        "kosmos-2",
        text_config={
            "vocab_size": 128,
            "embed_dim": 32,
            "layers": 4,
            "ffn_dim": 48,
            "attention_heads": 4,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={name: value for name, value in CLIP.items() if name not in ("model_type", "projection_dim")},
        latent_query_num=4,
    )


def kosmos2_case(batch: int, padding: str | None, images: int) -> Case:
    """Image positions are marked by a mask of their own, and hold ordinary ids."""
    inputs, modality = write(prompts(batch, padding, 1, lambda *_: image(4, token=7)), padding)
    inputs["pixel_values"] = torch.randn(batch, 3, 24, 24)
    inputs["image_embeds_position_mask"] = token_types(modality, {IMAGE: 1})
    return Case(inputs, modality, [[]] * batch)


def blip2_parts() -> dict[str, Any]:
    sizes = text_sizes("opt", ffn_dim=48, word_embed_proj_dim=32)
    for name in ("num_key_value_heads", "head_dim", "intermediate_size"):
        sizes.pop(name)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 24,
        "patch_size": 8,
    }
    queries = {
        "vocab_size": 128,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "encoder_hidden_size": 16,
    }
    return {
        "text_config": sizes,
        "vision_config": vision,
        "qformer_config": queries,
        "num_query_tokens": 4,
        "image_token_index": IMAGE_ID,
    }


def build_blip2() -> nn.Module:
    return from_config("blip-2", **blip2_parts())


def blip2_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, 1, lambda *_: image(4)), padding)
    inputs["pixel_values"] = torch.randn(batch, 3, 24, 24)
    return Case(inputs, modality, [[]] * batch)


def build_instructblip() -> nn.Module:
    return from_config("instructblip", **blip2_parts())


def instructblip_case(batch: int, padding: str | None, images: int) -> Case:
    case = blip2_case(batch, padding, images)
    case.inputs["qformer_input_ids"] = torch.randint(10, 100, (batch, 5))
    case.inputs["qformer_attention_mask"] = torch.ones(batch, 5, dtype=torch.long)
    return case


FAMILIES = [
    Family("aria", build_aria, aria_case),
    Family("kosmos2", build_kosmos2, kosmos2_case, max_images=1),
    Family("blip2", build_blip2, blip2_case, max_images=1),
    Family("instructblip", build_instructblip, instructblip_case, max_images=1),
]
