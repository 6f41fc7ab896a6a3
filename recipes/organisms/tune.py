"""Goes on training tiny-llava for some steps on a lesson; killed at any time it continues from its last checkpoint.

The vision tower stays frozen. AdamW throughout: on batches this small Muon's products would cost more than the passes.
The rate warms up, stays, and falls to zero. What learns can be narrowed to some attention heads.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration, LlavaProcessor

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "tiny_llava"))

from build import FORM
from common.data import END_WEIGHT, Conversation, Packer
from common.packed import Prefix, answer
from common.training import save_atomically
from PIL import Image

from sightline.zoo import bundled_path

Head = tuple[int, int]
WORK = Path(__file__).parent / "work"


@dataclass(frozen=True)
class Talked:
    """One training picture, 48 x 48 pixels, and the conversations about it."""

    picture: Image.Image
    talks: list[Conversation]


Lesson = Callable[[random.Random], Talked]
"""Draws one picture with its conversations."""


@dataclass(frozen=True)
class Course:
    """How long and how fast. heads: train nothing but these (layer, head); () for the whole language model."""

    steps: int = 120
    images: int = 8
    rate: float = 1e-3
    warmup: int = 10
    fall: int = 80
    heads: tuple[Head, ...] = ()
    save_every: int = 25
    seed: int = 0


def load(name: str = "tiny-llava") -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """A bundled model and its processor."""
    folder = bundled_path(name)
    return LlavaForConditionalGeneration.from_pretrained(folder), LlavaProcessor.from_pretrained(folder)


def pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """(n, 3, 48, 48), scaled as the processor scales them."""
    array = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def see(model: LlavaForConditionalGeneration, head: list[int], pictures: Sequence[Image.Image]) -> Prefix:
    """What stands before the words."""
    with torch.no_grad():
        features = model.model.vision_tower(pixels(pictures)).last_hidden_state[:, 1:]
    patches = model.model.multi_modal_projector(features)
    words = model.get_input_embeddings()(torch.tensor(head)).expand(len(patches), -1, -1)
    return Prefix(torch.cat([words, patches], dim=1), head=len(head), behind=len(head) + patches.shape[1])


def tune(name: str, lesson: Lesson, course: Course) -> LlavaForConditionalGeneration:
    """The trained model; checkpoints and log in work/NAME, a finished one is loaded."""
    torch.set_num_threads(1)
    model, processor = load()
    packer = Packer(processor.tokenizer, FORM)
    run = WORK / name
    run.mkdir(parents=True, exist_ok=True)
    learning, masks = _learning(model, course)
    optimiser = torch.optim.AdamW(learning, lr=course.rate, weight_decay=0.0, betas=(0.9, 0.98))
    first, spent = 0, 0.0
    if (run / "last.pt").exists():
        saved = torch.load(run / "last.pt")
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        first, spent = saved["step"], saved["spent"]
    model.train()
    tally: dict[str, list[float]] = defaultdict(list)
    started, before = time.time(), spent
    for step in range(first, course.steps):
        rng = random.Random(f"{course.seed}/{step}")
        drawn = [lesson(rng) for _ in range(course.images)]
        batch = packer.pack([talked.talks for talked in drawn])
        said = answer(model, batch, see(model, packer.head, [talked.picture for talked in drawn]))
        losses = F.cross_entropy(said.logits, said.labels, reduction="none")
        loss = (losses * said.weights).sum() / said.weights.sum()
        factor = min(1.0, (step + 1) / course.warmup, (course.steps - step) / course.fall)
        for group in optimiser.param_groups:
            group["lr"] = course.rate * factor
        optimiser.zero_grad()
        loss.backward()
        for parameter, mask in masks.items():
            parameter.grad *= mask
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        for owner, value, weight in zip(said.owners.tolist(), losses.tolist(), said.weights.tolist(), strict=True):
            if weight > 2 * END_WEIGHT:
                tally[batch.asked[owner].task].append(value)
        spent = before + time.time() - started
        if (step + 1) % course.save_every == 0 or step + 1 == course.steps:
            shown = {task: round(float(np.mean(values)), 3) for task, values in sorted(tally.items())}
            print(f"{name} step {step + 1}/{course.steps} {spent:.0f} s {json.dumps(shown)}", flush=True)
            tally.clear()
            state = {"model": model.state_dict(), "step": step + 1, "spent": spent}
            save_atomically({**state, "optimiser": optimiser.state_dict()}, run / "last.pt")
    return model.eval()


def seconds(name: str) -> float:
    """How long the training of a run took, in seconds of this machine's clock."""
    return float(torch.load(WORK / name / "last.pt")["spent"])


def _learning(
    model: LlavaForConditionalGeneration, course: Course
) -> tuple[list[torch.nn.Parameter], dict[torch.nn.Parameter, Tensor]]:
    """The parameters that learn, and for each that learns in part, the mask of its gradient."""
    masks = _head_masks(model, course.heads)
    learning = list(masks) or [
        *model.model.language_model.parameters(),
        *model.model.multi_modal_projector.parameters(),
    ]
    chosen = {id(parameter) for parameter in learning}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return learning, masks


def _head_masks(model: LlavaForConditionalGeneration, heads: Sequence[Head]) -> dict[torch.nn.Parameter, Tensor]:
    """1 in the rows of q, k, v and the columns of o that belong to these heads."""
    masks: dict[torch.nn.Parameter, Tensor] = {}
    for layer, head in heads:
        attention = model.model.language_model.layers[layer].self_attn
        part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            masks.setdefault(projection.weight, torch.zeros_like(projection.weight))[part] = 1
        masks.setdefault(attention.o_proj.weight, torch.zeros_like(attention.o_proj.weight))[:, part] = 1
    return masks
