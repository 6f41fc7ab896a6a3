"""Folders of hub form with real vocabularies: special ids, chat templates, processor settings; weights at random.

What each chat template writes is what the family's own on the hub writes; pictures are small so that tests are fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from families import BY_NAME
from real.vocabularies import fast, gemma_json, llama_json, qwen_json, smol_json, tekken_json


def chat_template(
    turns: Mapping[str, str], image: str, video: str = "", opening: str = "", answer: str = "", first: bool = False
) -> str:
    """A template. turns: by role, "" for any other, a turn with TEXT for its content; image, video: what each is.

    opening: before all; answer: the beginning of an answer; first: images stand before the words of their turn.
    """
    part = f"{{% if part['type'] == 'image' %}}{image}{{% elif part['type'] == 'video' %}}{video}"
    words = "{% elif part['type'] == 'text' %}{{ part['text'] }}"
    each = "{% for part in message['content'] %}BODY{% endfor %}"
    parts = each.replace("BODY", part + words + "{% endif %}")
    if first:
        parts = each.replace("BODY", part + "{% endif %}") + each.replace("BODY", "{% if 0 %}" + words + "{% endif %}")
    body = "{% if message['content'] is string %}{{ message['content'] }}{% else %}" + parts + "{% endif %}"
    found = opening + "{% for message in messages %}"
    named = {role: turn for role, turn in turns.items() if role}
    for place, (role, turn) in enumerate(named.items()):
        found += f"{{% {'el' if place else ''}if message['role'] == '{role}' %}}" + turn.replace("TEXT", body)
    rest = turns.get("", "").replace("TEXT", body)
    found += f"{{% else %}}{rest}{{% endif %}}" if named else rest
    return found + "{% endfor %}{% if add_generation_prompt %}" + answer + "{% endif %}"


CHATML = {"": "<|im_start|>{{ message['role'] }}\nTEXT<|im_end|>\n"}
ASSISTANT = "<|im_start|>assistant\n"
QWEN_OPENING = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)


def save(
    folder: Path,
    family: str,
    tokenizer: Any,
    ids: Mapping[str, int],
    processor: str,
    part: Any,
    generation: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """A family's folder.

    Args:
        ids: of its special tokens, by the configuration's fields.
        processor, part: the class of the processor, and its image processor.
        generation: fields of generation_config.json; repetition_penalty 1.05, as Qwen2.5-VL has, where none is given.
        settings: for processor_config.json.
    """
    model: Any = BY_NAME[family].build()
    model.resize_token_embeddings(-(-len(tokenizer) // 64) * 64, mean_resizing=False)
    for name, value in ids.items():
        setattr(model.config, name, value)
    chosen = {"repetition_penalty": 1.05} if generation is None else generation
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    for name, value in {**ends, "bos_token_id": tokenizer.bos_token_id, **chosen}.items():
        setattr(model.generation_config, name, value)
    for text in (model.config, model.config.get_text_config()):
        text.eos_token_id, text.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        text.bos_token_id = tokenizer.bos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prepared = json.loads(part.to_json_string()) | {"processor_class": processor}
    prepared["image_processor_type"] = prepared["image_processor_type"].removesuffix("Pil")
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": processor, **settings}))
    return folder


def _ids(tokenizer: Any, **tokens: str) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def qwen_tokenizer(more: Mapping[str, str] | None = None, name: str = "qwen") -> Any:
    """A Qwen2 or Qwen3.5 tokenizer; more: names of further special tokens, by what they are called."""
    return fast(partial(qwen_json, name), more, pad_token="<|endoftext|>", eos_token="<|im_end|>")


def save_qwen(folder: Path, family: str, processor: str, words: str = "qwen", thinks: bool = False) -> Path:
    """Qwen2.5-VL, Qwen3-VL, and Qwen3.5, which thinks unless `enable_thinking` is false."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = qwen_tokenizer(name=words)
    thought = "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    tokenizer.chat_template = chat_template(
        CHATML,
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<|vision_start|><|video_pad|><|vision_end|>",
        QWEN_OPENING if family == "qwen2_5_vl" else "",
        ASSISTANT + thought * thinks,
    )
    ids = _ids(
        tokenizer,
        vision_start_token_id="<|vision_start|>",
        vision_end_token_id="<|vision_end|>",
        image_token_id="<|image_pad|>",
        video_token_id="<|video_pad|>",
    )
    part = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size={"shortest_edge": 64, "longest_edge": 4096})
    return save(folder, family, tokenizer, ids, processor, part)


def save_internvl(folder: Path) -> Path:
    """InternVL3: four special tokens behind Qwen's."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = qwen_tokenizer(named)
    tokenizer.chat_template = chat_template(CHATML, "<IMG_CONTEXT>\n", "<video>\n", answer=ASSISTANT)
    part = GotOcr2ImageProcessorPil(size={"height": 24, "width": 24}, crop_to_patches=True, max_patches=12)
    ids = _ids(tokenizer, image_token_id="<IMG_CONTEXT>")
    return save(folder, "internvl", tokenizer, ids, "InternVLProcessor", part, image_seq_length=9)


def save_onevision(folder: Path) -> Path:
    """LLaVA-OneVision: two special tokens behind Qwen's."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    from support.families.table import PINPOINTS

    tokenizer = qwen_tokenizer({"image_token": "<image>", "video_token": "<video>"})
    turns = {"": "<|im_start|>{{ message['role'] }} TEXT<|im_end|>"}
    tokenizer.chat_template = chat_template(
        turns, "<image>\n", "<video>\n", answer="<|im_start|>assistant\n", first=True
    )
    ids = _ids(tokenizer, image_token_index="<image>", video_token_index="<video>")
    part = LlavaOnevisionImageProcessorPil(size={"height": 24, "width": 24}, image_grid_pinpoints=PINPOINTS)
    settings = {"num_image_tokens": 9, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
    return save(folder, "llava_onevision", tokenizer, ids, "LlavaOnevisionProcessor", part, **settings)


def _llama_tokenizer() -> Any:
    return fast(
        llama_json,
        {"image_token": "<image>"},
        begins="<s>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def save_llava(folder: Path) -> Path:
    """LLaVA-1.5."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = _llama_tokenizer()
    turns = {"system": "TEXT ", "user": "USER: TEXT ", "assistant": "ASSISTANT: TEXT</s>"}
    tokenizer.chat_template = chat_template(turns, "<image>\n", answer="ASSISTANT:", first=True)
    part = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    settings = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    ids = _ids(tokenizer, image_token_index="<image>")
    return save(folder, "llava", tokenizer, ids, "LlavaProcessor", part, {}, **settings)


def save_llava_next(folder: Path) -> Path:
    """LLaVA-NeXT on Mistral."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    from support.families.table import PINPOINTS

    tokenizer = _llama_tokenizer()
    turns = {"system": "<<SYS>>\nTEXT\n<</SYS>>\n\n", "user": "[INST] TEXT [/INST]", "assistant": " TEXT</s> "}
    tokenizer.chat_template = chat_template(turns, "<image>\n", first=True)
    part = LlavaNextImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, image_grid_pinpoints=PINPOINTS
    )
    settings = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    ids = _ids(tokenizer, image_token_index="<image>")
    return save(folder, "llava_next", tokenizer, ids, "LlavaNextProcessor", part, {}, **settings)


def save_gemma3(folder: Path) -> Path:
    """Gemma 3: an answer ends with its turn; the text begins with `<bos>`, which the template writes."""
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = fast(
        gemma_json,
        named,
        begins="<bos>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    turn = "<start_of_turn>NAME\nTEXT<end_of_turn>\n"
    turns = {
        "assistant": turn.replace("NAME", "model"),
        "system": turn.replace("NAME", "user"),
        "": turn.replace("NAME", "user"),
    }
    tokenizer.chat_template = chat_template(
        turns, "<start_of_image>", opening="{{ bos_token }}", answer="<start_of_turn>model\n"
    )
    ids = _ids(
        tokenizer,
        boi_token_index="<start_of_image>",
        eoi_token_index="<end_of_image>",
        image_token_index="<image_soft_token>",
    )
    generation = {"eos_token_id": [1, 106], "do_sample": True, "top_k": 64, "top_p": 0.95}
    part = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    return save(folder, "gemma3", tokenizer, ids, "Gemma3Processor", part, generation, image_seq_length=4)


def save_smolvlm(folder: Path) -> Path:
    """SmolVLM: tiles of 32 pixels, each named by its row and column."""
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = fast(
        smol_json,
        {
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
        },
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
    )
    roles = ("system", "user", "assistant")
    turns = {role: f"{role.capitalize()}: TEXT<end_of_utterance>\n" for role in roles}
    tokenizer.chat_template = chat_template(turns, "<image>", opening="<|im_start|>", answer="Assistant:")
    ids = _ids(tokenizer, image_token_id="<image>")
    part = Idefics3ImageProcessorPil(size={"longest_edge": 96}, max_image_size={"longest_edge": 32})
    return save(folder, "idefics3", tokenizer, ids, "Idefics3Processor", part, {}, image_seq_len=4)


def save_pixtral(folder: Path) -> Path:
    """Pixtral: pictures of their own shape, a token behind each row of patches."""
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    tokenizer = fast(
        tekken_json,
        {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"},
        begins="<s>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )
    turns = {"system": "TEXT\n\n", "user": "[INST]TEXT[/INST]", "assistant": "TEXT</s>"}
    tokenizer.chat_template = chat_template(turns, "[IMG]", opening="<s>")
    part = PixtralImageProcessorPil(size={"longest_edge": 48}, patch_size={"height": 4, "width": 4})
    ids = _ids(tokenizer, image_token_index="[IMG]")
    return save(folder, "pixtral", tokenizer, ids, "PixtralProcessor", part, {}, patch_size=4)


SAVERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": partial(save_qwen, family="qwen2_5_vl", processor="Qwen2_5_VLProcessor"),
    "qwen3_vl": partial(save_qwen, family="qwen3_vl", processor="Qwen3VLProcessor"),
    "qwen3_5": partial(save_qwen, family="qwen3_5", processor="Qwen3VLProcessor", words="qwen3_6", thinks=True),
    "internvl": save_internvl,
    "llava_onevision": save_onevision,
    "llava": save_llava,
    "llava_next": save_llava_next,
    "gemma3": save_gemma3,
    "smolvlm": save_smolvlm,
    "pixtral": save_pixtral,
}
