"""The first stage: give the vision tower meaning, and say it in the language model's words.

The tower learns to tell, for each patch, which of the 25 kinds of object (or nothing) stands in its cell, and which
cell that is. With it, as CLIP does, the projected patch is pulled towards the embeddings of the colour word and the
shape word that name it ("nothing" where the cell is empty). Afterwards the tower is frozen; projector and words go on
learning with the language model.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from build import IMAGE_SIZE, PATCH, PATCHES
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, GRID, KINDS, SHAPES, Scene, draw_scenes

SIDE = IMAGE_SIZE // PATCH
SHARPNESS = 10.0
CELL_OF_PATCH = torch.tensor([(p // SIDE) * GRID // SIDE * GRID + (p % SIDE) * GRID // SIDE for p in range(PATCHES)])


def pixels(scenes: list[Scene]) -> Tensor:
    """(n, 3, 48, 48), scaled as the processor scales them."""
    array = np.stack([np.asarray(render(scene, IMAGE_SIZE)) for scene in scenes])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def patch_labels(scenes: list[Scene]) -> Tensor:
    """(n, 36): index into KINDS of the object in the patch's cell, len(KINDS) for none."""
    cells = torch.full((len(scenes), GRID * GRID), len(KINDS))
    for row, scene in enumerate(scenes):
        for item in scene.items:
            cells[row, item.cell] = KINDS.index(item.kind)
    return cells[:, CELL_OF_PATCH]


def tower_features(model: LlavaForConditionalGeneration, images: Tensor) -> Tensor:
    """(n, 36, width) patch features as LLaVA takes them: last layer, no class token."""
    return model.model.vision_tower(images).last_hidden_state[:, 1:]


def train_vision(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int, batch: int = 64
) -> dict[str, float]:
    """Trains tower, projector and word embeddings together; returns the last accuracies."""
    torch.manual_seed(seed)
    width = model.config.vision_config.hidden_size
    kind_head, cell_head = nn.Linear(width, len(KINDS) + 1), nn.Linear(width, GRID * GRID)
    words = torch.tensor(tokenizer.convert_tokens_to_ids([*COLOURS, *SHAPES, "nothing"]))
    embeddings = model.get_input_embeddings()
    parts = [model.model.vision_tower, model.model.multi_modal_projector, embeddings, kind_head, cell_head]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    nothing = len(KINDS)
    colour_of = torch.tensor([COLOURS.index(kind.colour) for kind in KINDS] + [len(COLOURS)])
    shape_of = torch.tensor([SHAPES.index(kind.shape) for kind in KINDS] + [len(SHAPES)])
    scenes = iter(draw_scenes(steps * batch, seed))
    figures: dict[str, float] = {}
    started = time.time()
    for step in range(steps):
        drawn = [next(scenes) for _ in range(batch)]
        labels = patch_labels(drawn)
        features = tower_features(model, pixels(drawn))
        projected = model.model.multi_modal_projector(features)
        direction = F.normalize(projected, dim=-1)
        near = direction @ F.normalize(embeddings(words), dim=-1).T * SHARPNESS
        colour_logits = near[..., [*range(5), 10]]
        shape_logits = near[..., [*range(5, 10), 10]]
        kind_logits, cell_logits = kind_head(features), cell_head(features)
        loss = (
            F.cross_entropy(kind_logits.flatten(0, 1), labels.flatten())
            + F.cross_entropy(cell_logits.flatten(0, 1), CELL_OF_PATCH.repeat(batch))
            + F.cross_entropy(colour_logits.flatten(0, 1), colour_of[labels].flatten())
            + F.cross_entropy(shape_logits.flatten(0, 1), shape_of[labels].flatten())
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 49 or step == steps - 1:
            there = labels != nothing
            figures = {
                "kind": (kind_logits.argmax(-1) == labels)[there].float().mean().item(),
                "cell": (cell_logits.argmax(-1) == CELL_OF_PATCH).float().mean().item(),
                "colour word": (colour_logits.argmax(-1) == colour_of[labels]).float().mean().item(),
                "shape word": (shape_logits.argmax(-1) == shape_of[labels]).float().mean().item(),
            }
            shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            print(f"vision {step + 1}/{steps} loss {loss.item():.3f} {shown} {time.time() - started:.0f} s", flush=True)
    _match_scale(model, projected.detach(), embeddings.weight.detach())
    return figures


@torch.no_grad()
def _match_scale(model: LlavaForConditionalGeneration, projected: Tensor, words: Tensor) -> None:
    """Scales the projector so that a patch is about as long as a colour and a shape word together."""
    factor = float(words.norm(dim=-1).mean() * 2**0.5 / projected.norm(dim=-1).mean())
    last = model.model.multi_modal_projector.linear_2
    last.weight.mul_(factor)
    last.bias.mul_(factor)
