"""Tiny models saved as a user would have them: weights, configuration, tokenizer, processor, chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from families import BY_NAME
from family_builders import core

CHAT = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
"""A chat template; IMAGE is replaced by what the family writes for an image."""


def byte_tokenizer(specials: dict[str, int], size: int = 512) -> Any:
    """A tokenizer of bytes whose special tokens have given ids; <pad>, <s> and </s> are 0, 1 and 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    placed = {"<pad>": core.PAD_ID, "<s>": core.BOS_ID, "</s>": core.EOS_ID, **specials}
    vocabulary = dict(placed)
    free = iter(number for number in range(size) if number not in set(placed.values()))
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = next(free)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=list(specials),
    )


def save_llava(folder: Path, chat: bool = True) -> Path:
    """LLaVA with a CLIP processor of 24 pixels, nine image tokens."""
    from transformers import LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    _widened("llava").save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),
        tokenizer=byte_tokenizer({"<image>": core.IMAGE_ID}),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("IMAGE", "<image>") if chat else None,
    ).save_pretrained(folder)
    return folder


def save_qwen2_5_vl(folder: Path) -> Path:
    """Qwen2.5-VL with the files that its hub folders have; the processor has a video part."""
    import json

    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    _widened("qwen2_5_vl").save_pretrained(folder)
    markers = {
        "<|vision_start|>": core.START_ID,
        "<|vision_end|>": core.END_ID,
        "<|image_pad|>": core.IMAGE_ID,
        "<|video_pad|>": core.VIDEO_ID,
    }
    tokenizer = byte_tokenizer(markers)
    tokenizer.chat_template = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    tokenizer.save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024})
    settings = json.loads(images.to_json_string())
    settings.update(image_processor_type="Qwen2VLImageProcessor", processor_class="Qwen2_5_VLProcessor")
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def save_llama(folder: Path, chat: bool = True) -> Path:
    """A text-only Llama with a tokenizer."""
    _widened("llama").save_pretrained(folder)
    tokenizer = byte_tokenizer({})
    tokenizer.chat_template = CHAT if chat else None
    tokenizer.save_pretrained(folder)
    return folder


def _widened(name: str) -> Any:
    """A family's model with a vocabulary that holds every byte."""
    model: Any = BY_NAME[name].build()
    model.resize_token_embeddings(512, mean_resizing=False)
    return model
