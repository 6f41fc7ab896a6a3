"""Between the stages: the image's states in the language model become what they are in tiny-llava's, layer by layer.

All that a question reads of the image are its keys and values. tiny-llava's patches bring their places along;
Qwen2.5-VL's tower knows none, so the first layers must make them of the three-dimensional positions. The difference to
tiny-llava's states, at every image token and behind every layer but the last, is a dense signal for it, and no question
need be run: some ten times cheaper a step than the next stage.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from common.optim import Muon
from common.training import Pupil, learning_rate, save_atomically
from pictures import Grid, draw_grid, pictures, show
from torch import Tensor
from vision import nearest, teacher_tokens

import sightline as sl
from sightline.zoo.world import Scene, draw_scenes


@torch.no_grad()
def taught_states(teacher: sl.VLM, scenes: Sequence[Scene], grid: Grid) -> Tensor:
    """(layers - 1, scenes, tokens, width): the teacher's state nearest to each token of the grid, behind each layer."""
    inner = teacher.model.model
    head = torch.tensor(teacher.tokenizer.encode("USER:"))
    words = inner.language_model.embed_tokens(head).expand(len(scenes), -1, -1)
    seen = inner.language_model(
        inputs_embeds=torch.cat([words, teacher_tokens(teacher, scenes)], dim=1), output_hidden_states=True
    ).hidden_states
    return torch.stack(seen[1:-1])[:, :, len(head) :][:, :, nearest(grid)]


def train_states(
    pupil: Pupil,
    image_processor: object,
    teacher: sl.VLM,
    steps: int,
    seed: int,
    kept: Path,
    rates: tuple[float, float] = (0.005, 5e-4),
    batch: int = 24,
) -> None:
    """Trains all, tower included; killed, it goes on from `kept`, where it leaves its state every 50 steps."""
    model = pupil.model
    trained = [*model.model.language_model.parameters(), *model.model.visual.parameters()]
    words = model.get_input_embeddings().weight
    matrices = [p for p in trained if p.ndim == 2 and p is not words]
    inside = {id(p) for p in matrices}
    others = [p for p in trained if id(p) not in inside]
    optimisers: list[torch.optim.Optimizer] = [
        Muon(matrices),
        torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98)),
    ]
    first = 0
    if kept.exists():
        saved = torch.load(kept)
        first = saved["step"]
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
    started = time.time()
    for step in range(first, steps):
        rng = random.Random(f"states/{seed}/{step}")
        grid = draw_grid(rng)
        scenes = list(draw_scenes(batch, seed + step))
        prefix = show(model, image_processor, pupil.packer.head, pictures(scenes, grid, rng), grid)
        states = model.model.language_model(
            inputs_embeds=prefix.embeddings,
            position_ids=prefix.positions[:, None].expand(-1, batch, -1),
            output_hidden_states=True,
            use_cache=False,
            **prefix.extra,
        ).hidden_states
        found, wanted = torch.stack(states[1:-1])[:, :, prefix.head :], taught_states(teacher, scenes, grid)
        spread = (wanted - wanted.mean((1, 2), keepdim=True)).square().sum((1, 2, 3))
        unexplained = (found - wanted).square().sum((1, 2, 3)) / spread
        for optimiser, rate in zip(optimisers, rates, strict=True):
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = rate * learning_rate(step, steps, 10, steps // 2)
        unexplained.mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        if step % 25 == 24:
            shown = " ".join(f"{value:.3f}" for value in unexplained.tolist())
            print(f"states {step + 1}/{steps} {grid} unexplained {shown}, {time.time() - started:.0f} s", flush=True)
        if step % 50 == 49:
            state = {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers], "step": step + 1}
            save_atomically(state, kept)
