"""The first stage: each image token learns to say what tiny-llava's patch at the same place says.

tiny-llava's tower and projector show the scene as 6 x 6 tokens in the language model's words; tower and merger learn
to give the same for pictures of any size, token by token, the nearest of the 36 being the model. A head beside it tells
which of the 25 kinds of object stands in a token's cell, for the figures and for a quicker start. Afterwards the tower
is frozen; mergers go on learning with the language model.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.optim import Muon
from common.training import learning_rate, save_atomically
from pictures import Grid, draw_grid, look, pictures, token_labels
from torch import Tensor, nn
from torch.nn import functional as F

import sightline as sl
from sightline.zoo.render import render
from sightline.zoo.world import KINDS, Scene, draw_scenes

RATE, MUON_RATE, WARMUP = 2e-3, 0.01, 20
SIDE = 6
"""Rows and columns of the teacher's tokens."""


@torch.no_grad()
def teacher_tokens(teacher: sl.VLM, scenes: Sequence[Scene]) -> Tensor:
    """(scenes, 36, width): the image tokens of tiny-llava."""
    shown = np.stack([np.asarray(render(scene, 48)) for scene in scenes])
    pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    inner = teacher.model.model
    return inner.multi_modal_projector(inner.vision_tower(pixels).last_hidden_state[:, 1:])


def nearest(grid: Grid) -> Tensor:
    """(tokens,): for each token of the grid the nearest of the teacher's 36."""
    row = ((torch.arange(grid[0]) + 0.5) * SIDE / grid[0]).long()
    column = ((torch.arange(grid[1]) + 0.5) * SIDE / grid[1]).long()
    return (row[:, None] * SIDE + column).flatten()


def train_vision(
    model: Any, image_processor: Any, teacher: sl.VLM, steps: int, seed: int, kept: Path, batch: int = 32
) -> None:
    """Trains tower and merger; killed, it goes on from `kept`, where it leaves its state every 50 steps."""
    torch.manual_seed(seed)
    head = nn.Linear(model.config.text_config.hidden_size, len(KINDS) + 1)
    parts = nn.ModuleList([model.model.visual, head])
    matrices = [p for p in model.model.visual.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in parts.parameters() if id(p) not in inside]
    optimisers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon(matrices), MUON_RATE),
        (torch.optim.AdamW(others, weight_decay=0.01, betas=(0.9, 0.98)), RATE),
    ]
    things = {"parts": parts, "muon": optimisers[0][0], "adam": optimisers[1][0]}
    first = 0
    if kept.exists():
        saved = torch.load(kept)
        first = saved["step"]
        for name, thing in things.items():
            thing.load_state_dict(saved[name])
    scenes = list(draw_scenes(steps * batch, seed))
    started = time.time()
    for step in range(first, steps):
        drawn = scenes[step * batch : (step + 1) * batch]
        rng = random.Random(f"vision/{seed}/{step}")
        grid = draw_grid(rng)
        labels = token_labels(drawn, grid).flatten()
        tokens, _ = look(model, image_processor, pictures(drawn, grid, rng))
        wanted = teacher_tokens(teacher, drawn)[:, nearest(grid)]
        distance = (tokens - wanted).square().sum() / (wanted - wanted.mean((0, 1))).square().sum()
        kinds = head(F.layer_norm(tokens.flatten(0, 1), tokens.shape[-1:]))
        loss = distance + F.cross_entropy(kinds, labels)
        for optimiser, rate in optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = rate * learning_rate(step, steps, WARMUP, steps // 2)
        loss.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        for optimiser, _ in optimisers:
            optimiser.step()
        if step % 25 == 24 or step == steps - 1:
            there = labels != len(KINDS)
            right = (kinds.argmax(-1) == labels)[there].float().mean()
            shown = f"{grid} kinds right {right:.3f}, unexplained {distance:.3f}, {time.time() - started:.0f} s"
            print(f"vision {step + 1}/{steps} {shown}", flush=True)
        if step % 50 == 49:
            save_atomically({"step": step + 1, **{name: thing.state_dict() for name, thing in things.items()}}, kept)
