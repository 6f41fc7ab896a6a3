"""What every tiny family is made of: a prompt written by hand, its forward inputs, and the truth about positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

PADDING, TEXT, IMAGE, VIDEO, AUDIO = range(5)
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
VOCABULARY = 128
IMAGE_ID, VIDEO_ID, AUDIO_ID = 120, 121, 122
START_ID, END_ID, BREAK_ID, TAG_ID = 110, 111, 112, 113


@dataclass(frozen=True)
class Case:
    """One batch: the model's forward inputs, and what is true about them, known from how they were written.

    `modality[i][p]` is 0 padding, 1 text, 2 image, 3 video, 4 audio. `grids[i]` lists (rows, columns) of every patch
    grid of sample i in order, and is None where the family gives no way to know.
    """

    inputs: dict[str, torch.Tensor]
    modality: list[list[int]]
    grids: list[list[tuple[int, int]]] | None = None


@dataclass(frozen=True)
class Family:
    """A tiny random model of one architecture, and prompts for it.

    `model()` is built once a process (seeded, float32, in evaluation mode). Do not change its weights; make a fresh
    one with `build()` where a test must. `make_inputs` returns the Case of a batch.

    Attributes:
        recipe: the line of `table.RECIPES`; by default that of its name.
    """

    name: str
    make_case: Callable[..., Case]
    modality: int = IMAGE
    layers_without_attention: tuple[int, ...] = ()
    tags: frozenset[str] = field(default_factory=frozenset)
    max_images: int = 2
    recipe: str = ""

    def build(self) -> Any:
        """A model of its own."""
        from .table import RECIPES

        return RECIPES[self.recipe or self.name].build()

    def model(self) -> Any:
        """The family's model, the same object each time."""
        return _built(self)

    def make_inputs(self, batch: int = 1, padding: str | None = None, images: int = 1) -> Case:
        """Forward inputs of `batch` prompts of `images` images each; prompts differ in length when they are padded.

        `padding` is "left", "right" or None (prompts of one length, and an attention mask of ones).
        """
        torch.manual_seed(7)
        return self.make_case(batch=batch, padding=padding, images=images)


@cache
def _built(family: Family) -> Any:
    return family.build()


Row = list[tuple[int, int]]


def text(count: int) -> Row:
    """`count` random text tokens."""
    return [(int(token), TEXT) for token in torch.randint(10, 100, (count,))]


def special(*ids: int) -> Row:
    """Given token ids, as text."""
    return [(token, TEXT) for token in ids]


def image(count: int, token: int = IMAGE_ID) -> Row:
    """`count` image placeholders."""
    return [(token, IMAGE)] * count


def video(count: int, token: int = VIDEO_ID) -> Row:
    """`count` video placeholders."""
    return [(token, VIDEO)] * count


def audio(count: int, token: int = AUDIO_ID) -> Row:
    """`count` audio placeholders."""
    return [(token, AUDIO)] * count


def write(rows: list[Row], padding: str | None) -> tuple[dict[str, torch.Tensor], list[list[int]]]:
    """Token ids and attention mask of rows of (id, modality), padded to one length; and the modality of each."""
    length = max(map(len, rows))
    if padding is None and any(len(row) != length for row in rows):
        raise ValueError("rows of different lengths need padding")
    padded = []
    for row in rows:
        pads: Row = [(PAD_ID, PADDING)] * (length - len(row))
        padded.append(pads + row if padding == "left" else row + pads)
    modality = [[kind for _, kind in row] for row in padded]
    ids = torch.tensor([[token for token, _ in row] for row in padded])
    mask = torch.tensor([[int(kind != PADDING) for kind in row] for row in modality])
    return {"input_ids": ids, "attention_mask": mask}, modality


def prompts(
    batch: int, padding: str | None, images: int, block: Callable[[int, int], Row], bos: bool = True
) -> list[Row]:
    """A prompt a sample: [BOS] text (block text) x images. Samples differ in length unless `padding` is None."""
    rows = []
    for sample in range(batch):
        extra = 3 * sample if padding else 0
        row = (special(BOS_ID) if bos else []) + text(4 + extra)
        for index in range(images):
            row = row + block(sample, index) + text(3)
        rows.append(row + text(2))
    return rows


def token_types(modality: list[list[int]], kinds: Mapping[int, int]) -> torch.Tensor:
    """Token type ids: `kinds` maps a modality to its type, the rest is 0."""
    return torch.tensor([[kinds.get(kind, 0) for kind in row] for row in modality])


TEXT_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": PAD_ID,
}


def text_sizes(model_type: str, **more: Any) -> dict[str, Any]:
    """The configuration of a tiny text decoder."""
    return {"model_type": model_type, **TEXT_SIZES, **more}


CLIP: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 8,
    "projection_dim": 16,
}
SIGLIP: dict[str, Any] = {**CLIP, "model_type": "siglip_vision_model"}


def from_config(model_type: str, made_by: str = "AutoModelForImageTextToText", **config: Any) -> nn.Module:
    """A seeded random float32 model of this configuration, in evaluation mode.

    Weights are drawn wider than the library does, so that attention differs between positions, heads and layers.
    """
    import transformers

    if model_type not in transformers.CONFIG_MAPPING:
        pytest.skip(f"this version of Transformers has no {model_type}")
    built, maker = transformers.AutoConfig.for_model(model_type, **config), getattr(transformers, made_by)
    if made_by.startswith("Auto"):
        return seeded(lambda: maker.from_config(built, dtype=torch.float32))
    return seeded(lambda: maker._from_config(built))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a model, then draw its weights anew from a fixed seed."""
    torch.manual_seed(0)
    model = make().float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 or not parameter.any():
                scale = 1.5 * max(parameter.shape[-1], 1) ** -0.5 if parameter.dim() > 1 else 0.1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model
