"""What the two small Qwens are made of: configuration, tokenizer, processor, chat template. Nothing here is trained.

tiny-qwen2_5-vl has what Qwen2.5-VL has: M-RoPE in three sections, pictures of any size, patches merged two by two, a
tower whose attention is windowed in half of its layers. tiny-qwen3-vl has what Qwen3-VL has: interleaved M-RoPE,
learned positions that are stretched to the picture, norms on queries and keys, DeepStack behind the first three layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from common.data import Form
from common.words import word_tokenizer
from transformers import GenerationConfig, PreTrainedTokenizerFast

PATCH, MERGE = 8, 2
TOKEN = PATCH * MERGE
"""Side in pixels of what one image token shows."""

SMALLEST, LARGEST = 96, 144
"""Sides of the square pictures of fewest and most pixels; others are made smaller or larger, at their own shape."""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|unknown|>",
)
CHAT_WORDS = ("<", ">", "seconds", "system", "user", "assistant", "you", "are", "a", "helpful")
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "SYSTEM"
    "<|im_start|>{{ message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "{{ '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Kind:
    """One of the two families.

    prefix: of its class names. system: what its chat template writes before a conversation that has no system message.
    mean, deviation: of the pixels, as its image processor takes them off.
    """

    prefix: str
    system: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    text: dict[str, Any]
    vision: dict[str, Any]

    @property
    def form(self) -> Form:
        """A conversation as the chat template writes it."""
        return Form(
            before=f"{self.system}<|im_start|>user\n<|vision_start|>",
            after="<|vision_end|>",
            turn="<|im_start|>user\n",
            ask="<|im_end|>\n<|im_start|>assistant\n",
        )


VISION: dict[str, Any] = {
    "depth": 4,
    "hidden_size": 48,
    "intermediate_size": 128,
    "num_heads": 3,
    "out_hidden_size": 128,
    "patch_size": PATCH,
    "spatial_merge_size": MERGE,
    "temporal_patch_size": 2,
}
TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
}
KINDS: dict[str, Kind] = {
    "tiny-qwen2_5-vl": Kind(
        prefix="Qwen2_5_VL",
        system=SYSTEM,
        mean=(0.48145466, 0.4578275, 0.40821073),
        deviation=(0.26862954, 0.26130258, 0.27577711),
        # Columns have the slowest rotations, as in the original; with its shares of 16, 24, 24 they would hardly turn
        # over the nine columns that there are here at most.
        text={
            **TEXT,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 14], "rope_theta": 1_000_000.0},
        },
        vision={
            **VISION,
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_heads": 4,
            "window_size": 48,
            "fullatt_block_indexes": [1, 3],
            "tokens_per_second": 2,
        },
    ),
    "tiny-qwen3-vl": Kind(
        prefix="Qwen3VL",
        system="",
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
        text={
            **TEXT,
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "default",
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
                "rope_theta": 1_000_000.0,
            },
        },
        vision={**VISION, "num_position_embeddings": 144, "deepstack_visual_indexes": [0, 1, 2]},
    ),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words of the small world with Qwen's special tokens; an answer ends with <|im_end|>."""
    return word_tokenizer(SPECIAL, CHAT_WORDS, unknown="<|unknown|>", pad_token="<|endoftext|>", eos_token="<|im_end|>")


def build_image_processor(kind: Kind) -> Any:
    """The image processor that works on Pillow pictures; no torchvision needed."""
    return transformers.Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        size={"shortest_edge": SMALLEST**2, "longest_edge": LARGEST**2},
        image_mean=list(kind.mean),
        image_std=list(kind.deviation),
    )


def chat_template(kind: Kind) -> str:
    """The chat template, in the form of the family's own."""
    system = "{% if loop.first and message['role'] != 'system' %}{{ WORDS }}{% endif %}"
    return CHAT_TEMPLATE.replace("SYSTEM", system.replace("WORDS", repr(kind.system)) if kind.system else "")


def build_config(kind: Kind, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Tower of 4 layers, decoder of 8, words tied to the output."""
    token = tokenizer.convert_tokens_to_ids
    return getattr(transformers, f"{kind.prefix}Config")(
        text_config={
            **kind.text,
            "vocab_size": len(tokenizer),
            "bos_token_id": token("<|endoftext|>"),
            "eos_token_id": token("<|im_end|>"),
            "pad_token_id": token("<|endoftext|>"),
            "tie_word_embeddings": True,
        },
        vision_config=kind.vision,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def build_model(kind: Kind, tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    """A fresh model; its word embeddings start large enough for patches to be aligned with them."""
    torch.manual_seed(seed)
    model = getattr(transformers, f"{kind.prefix}ForConditionalGeneration")(build_config(kind, tokenizer))
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0.0, 0.08)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=64,
        do_sample=False,
    )
    return model
