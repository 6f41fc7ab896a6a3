"""Tiny models saved as a user would have them: weights, configuration, tokenizer, processor, chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from families import BY_NAME
from support.families import core
from support.families.table import PINPOINTS

VOCABULARY = 512
"""Room for every byte and for the special tokens."""

CHAT = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO"
    "{% elif part['type'] == 'audio' %}AUDIO{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
"""A chat template; IMAGE, VIDEO and AUDIO are replaced by what the family writes for them."""


def byte_tokenizer(specials: dict[str, int], named: dict[str, str] | None = None) -> Any:
    """A tokenizer of bytes whose special tokens have given ids; <pad>, <s> and </s> are 0, 1 and 2.

    `named` gives some of them names of their own, as `image_token`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    placed = {"<pad>": core.PAD_ID, "<s>": core.BOS_ID, "</s>": core.EOS_ID, **specials}
    vocabulary = dict(placed)
    free = iter(number for number in range(VOCABULARY) if number not in set(placed.values()))
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[letter] = next(free)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(specials))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=named or {},
    )


def save(
    folder: Path,
    family: str,
    markers: dict[str, int],
    processor: str,
    image: str = "<image>",
    video: str = "<video>",
    audio: str = "",
    named: dict[str, str] | None = None,
    parts: tuple[Any, ...] = (),
    chat: bool = True,
    **settings: Any,
) -> Path:
    """A family's folder with the files that its hub folders have.

    Args:
        markers: ids of the special tokens; the model's own are those of `support.families.core`.
        processor: the class of the processor; "" for a text-only model.
        image, video, audio: what the chat template writes for each.
        named: special tokens that the tokenizer knows by name.
        parts: image processor and feature extractor, whose settings go into preprocessor_config.json.
        settings: for processor_config.json.
    """
    model: Any = BY_NAME[family].build()
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer = byte_tokenizer(markers, named)
    tokenizer.chat_template = (
        CHAT.replace("IMAGE", image).replace("VIDEO", video).replace("AUDIO", audio) if chat else None
    )
    tokenizer.save_pretrained(folder)
    if processor:
        preparing: dict[str, Any] = {}
        for part in parts:
            preparing.update(json.loads(part.to_json_string()))
        preparing["processor_class"] = processor
        for name, value in preparing.items():  # hub folders name the class without its backend
            if name == "image_processor_type":
                preparing[name] = value.removesuffix("Pil")
        (folder / "preprocessor_config.json").write_text(json.dumps(preparing))
        (folder / "processor_config.json").write_text(json.dumps({"processor_class": processor, **settings}))
    return folder


def save_llava(folder: Path, chat: bool = True) -> Path:
    """LLaVA: 24 pixels, nine image tokens."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return save(
        folder,
        "llava",
        {"<image>": core.IMAGE_ID},
        "LlavaProcessor",
        parts=(CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}),),
        chat=chat,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def save_llava_next(folder: Path) -> Path:
    """LLaVA-NeXT: images cut up at one of three resolutions."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    sizes = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, "image_grid_pinpoints": PINPOINTS}
    return save(
        folder,
        "llava_next",
        {"<image>": core.IMAGE_ID},
        "LlavaNextProcessor",
        parts=(LlavaNextImageProcessorPil(**sizes),),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def save_llava_onevision(folder: Path) -> Path:
    """LLaVA-OneVision: as LLaVA-NeXT, and several images of one prompt are not cut up."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    return save(
        folder,
        "llava_onevision",
        {"<image>": core.IMAGE_ID, "<video>": core.VIDEO_ID},
        "LlavaOnevisionProcessor",
        parts=(LlavaOnevisionImageProcessorPil(size={"height": 24, "width": 24}, image_grid_pinpoints=PINPOINTS),),
        num_image_tokens=9,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )


QWEN_MARKERS = {
    "<|vision_start|>": core.START_ID,
    "<|vision_end|>": core.END_ID,
    "<|image_pad|>": core.IMAGE_ID,
    "<|video_pad|>": core.VIDEO_ID,
}


def save_qwen(folder: Path, family: str, processor: str) -> Path:
    """A Qwen; its processor has a video part."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return save(
        folder,
        family,
        QWEN_MARKERS,
        processor,
        image="<|vision_start|><|image_pad|><|vision_end|>",
        video="<|vision_start|><|video_pad|><|vision_end|>",
        parts=(Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 1024}),),
    )


def save_internvl(folder: Path) -> Path:
    """InternVL: images cut into tiles of 24 pixels."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    return save(
        folder,
        "internvl",
        {"<img>": core.START_ID, "</img>": core.END_ID, "<IMG_CONTEXT>": core.IMAGE_ID, "<video>": core.VIDEO_ID},
        "InternVLProcessor",
        image="<IMG_CONTEXT>",
        named=named,
        parts=(GotOcr2ImageProcessorPil(size={"height": 24, "width": 24}, crop_to_patches=True, max_patches=4),),
        image_seq_length=9,
    )


def save_gemma3(folder: Path) -> Path:
    """Gemma 3: the processor's image token is the marker in front of the image, not the placeholder."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    markers = {
        "<start_of_image>": core.START_ID,
        "<end_of_image>": core.END_ID,
        "<image_soft_token>": core.IMAGE_ID,
    }
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    return save(
        folder,
        "gemma3",
        markers,
        "Gemma3Processor",
        image="<start_of_image>",
        named=named,
        parts=(Gemma3ImageProcessorPil(size={"height": 32, "width": 32}),),
        image_seq_length=4,
    )


def save_idefics3(folder: Path) -> Path:
    """Idefics3: tiles of 32 pixels, each named by its row and column, and a view of the whole behind them."""
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    markers = {"<image>": core.IMAGE_ID, "<fake_token_around_image>": core.START_ID, "<global-img>": core.END_ID}
    markers.update({f"<row_{r + 1}_col_{c + 1}>": 300 + 6 * r + c for r in range(6) for c in range(6)})
    markers["<end_of_utterance>"] = 299
    return save(
        folder,
        "idefics3",
        markers,
        "Idefics3Processor",
        parts=(Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),),
        image_seq_len=4,
    )


def save_paligemma(folder: Path) -> Path:
    """PaliGemma: no chat template; the processor puts the image tokens in itself."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    images = SiglipImageProcessorPil(size={"height": 24, "width": 24})
    images.image_seq_length = 9
    return save(folder, "paligemma", {"<image>": core.IMAGE_ID}, "PaliGemmaProcessor", parts=(images,), chat=False)


def save_pixtral(folder: Path, family: str, merge: int) -> Path:
    """Pixtral and Mistral 3: images of their own shape, each row of patches closed by a token."""
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    patch = {"height": 4 * merge, "width": 4 * merge}
    return save(
        folder,
        family,
        {"[IMG]": core.IMAGE_ID, "[IMG_BREAK]": core.BREAK_ID, "[IMG_END]": core.END_ID},
        "PixtralProcessor",
        image="[IMG]",
        parts=(PixtralImageProcessorPil(size={"longest_edge": 48}, patch_size=patch),),
        patch_size=4,
        spatial_merge_size=merge,
    )


def save_qwen2_audio(folder: Path) -> Path:
    """Qwen2-Audio: a second of sound in 40 frames, ten tokens."""
    from transformers import WhisperFeatureExtractor

    return save(
        folder,
        "qwen2_audio",
        {"<|AUDIO|>": core.AUDIO_ID, "<|audio_bos|>": core.START_ID, "<|audio_eos|>": core.END_ID},
        "Qwen2AudioProcessor",
        audio="<|audio_bos|><|AUDIO|><|audio_eos|>",
        parts=(WhisperFeatureExtractor(feature_size=8, hop_length=400, chunk_length=1),),
    )


def save_llama(folder: Path, chat: bool = True) -> Path:
    """A text-only Llama with a tokenizer."""
    return save(folder, "llama", {}, "", chat=chat)


SAVERS: dict[str, Callable[[Path], Path]] = {
    "llava": save_llava,
    "llava_without_template": partial(save_llava, chat=False),
    "llava_next": save_llava_next,
    "llava_onevision": save_llava_onevision,
    "qwen2_vl": partial(save_qwen, family="qwen2_vl", processor="Qwen2VLProcessor"),
    "qwen2_5_vl": partial(save_qwen, family="qwen2_5_vl", processor="Qwen2_5_VLProcessor"),
    "qwen3_vl": partial(save_qwen, family="qwen3_vl", processor="Qwen3VLProcessor"),
    "internvl": save_internvl,
    "gemma3": save_gemma3,
    "idefics3": save_idefics3,
    "paligemma": save_paligemma,
    "mistral3": partial(save_pixtral, family="mistral3", merge=2),
    "pixtral": partial(save_pixtral, family="pixtral", merge=1),
    "llama": save_llama,
    "llama_without_template": partial(save_llama, chat=False),
}
"""A folder of each kind, by name."""


def load_or_skip(folder: Path) -> Any:
    """The loaded VLM; the test is skipped where its processor needs torchvision for still images and it is missing."""
    import pytest

    from sightline.errors import ModelError
    from sightline.models.vlm import load

    try:
        return load(folder)
    except ModelError as error:
        if "torchvision" in str(error):
            pytest.skip(str(error))
        raise
