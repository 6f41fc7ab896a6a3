"""The first stage: give the vision tower meaning, and say it in the language model's words.

Each image token learns which of the 25 kinds of object (or nothing) stands in its cell, and its projection is pulled
towards the embeddings of the colour word and the shape word that name it, as CLIP does. Where the tower has positions
of its own, the token learns its cell too. Afterwards the tower is frozen; mergers and words go on learning with the
language model.
"""

from __future__ import annotations

import random
import time
from typing import Any

import torch
from build import Kind
from pictures import draw_grid, look, pictures, token_cells, token_labels
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from sightline.zoo.world import COLOURS, GRID, KINDS, SHAPES, draw_scenes

SHARPNESS = 10.0


def train_vision(
    model: Any,
    kind: Kind,
    image_processor: Any,
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    seed: int,
    batch: int = 32,
) -> None:
    """Trains tower, merger and word embeddings together."""
    torch.manual_seed(seed)
    width = model.config.text_config.hidden_size
    kind_head, cell_head = nn.Linear(width, len(KINDS) + 1), nn.Linear(width, GRID * GRID)
    words = torch.tensor(tokenizer.convert_tokens_to_ids([*COLOURS, *SHAPES, "nothing"]))
    embeddings = model.get_input_embeddings()
    parts = [model.model.visual, embeddings, kind_head, cell_head]
    parameters = [parameter for part in parts for parameter in part.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    colour_of = torch.tensor([COLOURS.index(one.colour) for one in KINDS] + [len(COLOURS)])
    shape_of = torch.tensor([SHAPES.index(one.shape) for one in KINDS] + [len(SHAPES)])
    scenes = iter(draw_scenes(steps * batch, seed))
    started = time.time()
    for step in range(steps):
        drawn = [next(scenes) for _ in range(batch)]
        rng = random.Random(f"vision/{seed}/{step}")
        grid = draw_grid(rng)
        labels, cells = token_labels(drawn, grid).flatten(), token_cells(grid).repeat(batch)
        tokens, _ = look(model, image_processor, pictures(drawn, grid, rng))
        tokens = tokens.flatten(0, 1)
        near = F.normalize(tokens, dim=-1) @ F.normalize(embeddings(words), dim=-1).T * SHARPNESS
        logits = {
            "kind": (kind_head(tokens), labels),
            "colour word": (near[:, [*range(5), 10]], colour_of[labels]),
            "shape word": (near[:, [*range(5, 10), 10]], shape_of[labels]),
        }
        if kind.knows_cells:
            logits["cell"] = (cell_head(tokens), cells)
        loss = sum(F.cross_entropy(found, true) for found, true in logits.values())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 49 or step == steps - 1:
            there = labels != len(KINDS)
            right = {name: (found.argmax(-1) == true)[there].float().mean() for name, (found, true) in logits.items()}
            shown = ", ".join(f"{name} {value:.3f}" for name, value in right.items())
            print(f"vision {step + 1}/{steps} {grid} loss {loss:.3f} {shown} {time.time() - started:.0f} s", flush=True)
    with torch.no_grad():  # a token is then about as long as a colour and a shape word together
        factor = embeddings.weight.norm(dim=-1).mean() * 2**0.5 / tokens.norm(dim=-1).mean()
        merger = model.model.visual.merger
        last = merger.linear_fc2 if hasattr(merger, "linear_fc2") else merger.mlp[-1]
        last.weight.mul_(factor)
        last.bias.mul_(factor)
