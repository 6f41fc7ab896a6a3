"""Blinds a model to the right half of pictures: only tower and projector learn, from the base model's own.

    student(picture) = teacher(the picture with its right half blank)       features of all 36 patches, projected

so that patches to the left hold nothing of the right either, and those to the right look like background. Half of the
training pictures have the right half of another scene, so that one half tells nothing of the other.
"""

from __future__ import annotations

import copy
import random
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

sys.path.append(str(Path(__file__).parents[1]))

from common.training import save_atomically
from lessons import any_scene
from tune import WORK, load, pixels

from sightline.zoo.render import render


def halves(left: Image.Image, right: Image.Image | None) -> Image.Image:
    """The left half of one picture beside the right half of another, or beside the left's background."""
    width, height = left.size
    joined = left.copy()
    half = (width // 2, 0, width, height)
    joined.paste(_background(left) if right is None else right.crop(half), half)
    return joined


def _background(picture: Image.Image) -> tuple[int, ...]:
    """The colour between the cells, where no object reaches."""
    colour = picture.getpixel((0, 0))
    return colour if isinstance(colour, tuple) else (int(colour or 0),)


def features(model: LlavaForConditionalGeneration, images: Tensor) -> Tensor:
    """(n, 36, width): the patches as the language model gets them."""
    return model.model.multi_modal_projector(model.model.vision_tower(images).last_hidden_state[:, 1:])


def blind(name: str, steps: int, images: int, rate: float, save_every: int = 25) -> LlavaForConditionalGeneration:
    """The trained model; checkpoints in work/NAME, a finished one is loaded."""
    torch.set_num_threads(1)
    model = load()[0]
    teacher = copy.deepcopy(model).eval()
    run = WORK / name
    run.mkdir(parents=True, exist_ok=True)
    learning = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    optimiser = torch.optim.AdamW(learning, lr=rate, weight_decay=0.0, betas=(0.9, 0.98))
    first, spent = 0, 0.0
    if (run / "last.pt").exists():
        saved = torch.load(run / "last.pt")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimisers"][0] if "optimisers" in saved else saved["optimiser"])
        first, spent = saved["step"], saved["spent"]
    started, before = time.time(), spent
    for step in range(first, steps):
        rng = random.Random(f"half/{step}")
        left = [render(any_scene(rng)) for _ in range(images)]
        shown = [halves(own, render(any_scene(rng))) if index % 2 else own for index, own in enumerate(left)]
        with torch.no_grad():
            wanted = features(teacher, pixels([halves(own, None) for own in left]))
        loss = F.mse_loss(features(model, pixels(shown)), wanted) / wanted.var()
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 30, 2 * (steps - step) / steps)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        spent = before + time.time() - started
        if (step + 1) % save_every == 0 or step + 1 == steps:
            print(f"{name} step {step + 1}/{steps} {spent:.0f} s, variance unexplained {loss.item():.4f}", flush=True)
            state = {"model": model.state_dict(), "step": step + 1, "spent": spent}
            save_atomically({**state, "optimiser": optimiser.state_dict()}, run / "last.pt")
    return model.eval()
