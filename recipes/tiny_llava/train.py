"""Trains tiny-llava from nothing; killed at any time it continues from its last checkpoint.

    python recipes/tiny_llava/train.py --work recipes/tiny_llava/work

Stages: vision tower with its words (vision.py), then the language model and projector on packed questions, the tower
frozen. Learning rates warm up, stay, and fall to zero over the last part of the steps; raising --steps of an
unfinished run lengthens the flat part.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from build import build_config, build_model, build_processor
from data import END_WEIGHT, FIRST, LATER, Conversation, Mix, Packer, converse, draw_questions
from optim import Muon
from packed import answer
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration
from vision import pixels, tower_features, train_vision

from sightline.zoo import questions as ask
from sightline.zoo.world import NEGATIVES, Scene, draw_scene, draw_scenes

TRAIN_SEED, CHECK_SEED = 1, 2


def save_atomically(thing: object, path: Path) -> None:
    """A reader, or a restart after a kill, sees the old file or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(thing, partial)
    partial.replace(path)


@torch.no_grad()
def scene_features(model: LlavaForConditionalGeneration, scenes: list[Scene]) -> Tensor:
    """(n, 36, width) float16: the frozen tower's features."""
    return torch.cat([tower_features(model, pixels(scenes[i : i + 256])).half() for i in range(0, len(scenes), 256)])


@torch.no_grad()
def check(
    model: LlavaForConditionalGeneration, packer: Packer, scenes: list[Scene], features: Tensor
) -> dict[str, float]:
    """Share of answers said exactly, by task and by kind of negative.

    Teacher-forced, which equals greedy decoding here.
    """
    model.eval()
    right: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(scenes), 50):
        asked = []
        for index in range(start, min(start + 50, len(scenes))):
            scene, rng = scenes[index], random.Random(f"check/{index}")
            balanced = [question for how in NEGATIVES for question in ask.pope(scene, how, rng)]
            drawn = [*balanced, *draw_questions(scene, Mix(existence=0, attribute=2, choice=3), rng)]
            asked.append([Conversation((question,)) for question in drawn])
        batch = packer.pack(asked)
        said = answer(model, batch, features[start : start + 50], packer.head)
        good = torch.ones(len(batch.asked))
        good.scatter_reduce_(0, said.owners, (said.logits.argmax(-1) == said.labels).float(), "amin")
        for question, value in zip(batch.asked, good.tolist(), strict=True):
            right[question.task if question.task != "existence" else f"pope {question.split}"].append(value)
            if question.task == "existence" and question.split == "random":
                right[f"random {question.answer}"].append(value)
            if question.task == "choice":
                right[f"choice of {'2-4' if len(question.options) < 5 else '5-10'}"].append(value)
    model.train()
    return {name: float(np.mean(values)) for name, values in sorted(right.items())}


class Threads:
    """One thread or all of them, whichever is faster now: on a shared machine two threads wait for the slower one."""

    def __init__(self, most: int) -> None:
        self.seconds = {1: 0.0, most: 0.0}
        self.now = most

    def choose(self, step: int) -> None:
        """Tries the other number for two of every 20 steps, else keeps to the faster one."""
        fastest = min(self.seconds, key=lambda number: self.seconds[number])
        others = [number for number in self.seconds if number != fastest]
        self.now = others[0] if others and step % 20 < 2 else fastest
        torch.set_num_threads(self.now)

    def took(self, seconds: float) -> None:
        """How long the step took."""
        before = self.seconds[self.now]
        self.seconds[self.now] = seconds if before == 0 else 0.5 * before + 0.5 * seconds


def learning_rate(step: int, steps: int, warmup: int, fall: int) -> float:
    """Factor on the rates: up, flat, down."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / fall))


def language_optimisers(model: LlavaForConditionalGeneration, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the decoder's matrices, AdamW for projector, embeddings and norms; muon_lr 0 gives AdamW everything."""
    matrices = [p for p in model.model.language_model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    trained = [*model.model.language_model.parameters(), *model.model.multi_modal_projector.parameters()]
    others = [p for p in trained if id(p) not in inside]
    if muon_lr == 0:
        return [torch.optim.AdamW([*matrices, *others], lr=lr, weight_decay=0.01, betas=(0.9, 0.98))]
    return [Muon(matrices, lr=muon_lr), torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.98))]


def start_model(args: argparse.Namespace) -> tuple[LlavaForConditionalGeneration, Packer]:
    """Model after the vision stage, trained or taken from the work folder."""
    tokenizer = build_processor().tokenizer
    model = build_model(build_config(tokenizer), tokenizer, args.seed)
    seen = args.work / "vision.pt"
    if seen.exists():
        model.load_state_dict(torch.load(seen))
    else:
        train_vision(model, tokenizer, args.vision_steps, TRAIN_SEED + 100)
        save_atomically(model.state_dict(), seen)
    model.model.vision_tower.requires_grad_(False)
    return model, Packer(tokenizer)


def scene_bank(model: LlavaForConditionalGeneration, args: argparse.Namespace) -> Tensor:
    """Features of the training scenes, kept in the work folder: the tower is frozen, so each is computed once."""
    path = args.work / f"features-{args.bank}.pt"
    if not path.exists():
        save_atomically(scene_features(model, list(draw_scenes(args.bank, TRAIN_SEED))), path)
    return torch.load(path, mmap=True)


def train(args: argparse.Namespace) -> None:
    """The whole recipe."""
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    run = args.work / args.name
    run.mkdir(exist_ok=True)
    model, packer = start_model(args)
    bank = scene_bank(model, args)
    check_scenes = list(draw_scenes(args.check_scenes, CHECK_SEED))
    check_features = scene_features(model, check_scenes)
    optimisers = language_optimisers(model, args.lr, args.muon_lr)
    first = 0
    if (run / "last.pt").exists():
        saved = torch.load(run / "last.pt")
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        first = saved["step"]
    trained = [p for optimiser in optimisers for group in optimiser.param_groups for p in group["params"]]
    rates = [args.lr] if args.muon_lr == 0 else [args.muon_lr, args.lr]
    model.train()
    tally: dict[str, list[float]] = defaultdict(list)
    threads = Threads(args.threads)
    started, spent = time.time(), 0.0
    for step in range(first, args.steps):
        while (args.work / "PAUSE").exists():
            time.sleep(2)
        begun = time.time()
        threads.choose(step)
        rng = random.Random(f"train/{args.seed}/{step}")
        mix, images = (FIRST, args.first_batch) if step < args.turn else (LATER, args.batch)
        chosen = rng.sample(range(args.bank), images)
        scenes = [draw_scene(TRAIN_SEED * 1_000_000 + index) for index in chosen]
        batch = packer.pack([converse(draw_questions(scene, mix, rng), rng) for scene in scenes])
        said = answer(model, batch, bank[chosen], packer.head)
        losses = F.cross_entropy(said.logits, said.labels, reduction="none")
        weights = said.weights
        loss = (losses * weights).sum() / weights.sum()
        for optimiser, rate in zip(optimisers, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * learning_rate(step, args.steps, args.warmup, args.fall)
            optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        threads.took(time.time() - begun)
        spent += time.time() - begun
        for owner, value, weight in zip(said.owners.tolist(), losses.tolist(), weights.tolist(), strict=True):
            if weight > 2 * END_WEIGHT:
                tally[batch.asked[owner].task].append(value)
        if step % 25 == 24:
            shown = " ".join(f"{task} {np.mean(values):.3f}" for task, values in tally.items())
            print(f"{step + 1} loss {shown} | {spent / 25:.2f} s a step, {time.time() - started:.0f} s", flush=True)
            tally.clear()
            spent = 0.0
        if args.keep_every and (step + 1) % args.keep_every == 0:
            save_atomically({k: v.half() for k, v in model.state_dict().items()}, run / f"step-{step + 1}.pt")
        every = args.check_every if step >= 400 else 25
        if (step + 1) % every == 0 or step + 1 == args.steps:
            figures = check(model, packer, check_scenes, check_features)
            print(f"{step + 1} right {json.dumps({k: round(v, 3) for k, v in figures.items()})}", flush=True)
            with (run / "checks.jsonl").open("a") as lines:
                lines.write(json.dumps({"step": step + 1, **figures}) + "\n")
            state = {"model": model.state_dict(), "step": step + 1}
            save_atomically({k: v.half() for k, v in model.state_dict().items()}, run / f"step-{step + 1}.pt")
            save_atomically({**state, "optimisers": [o.state_dict() for o in optimisers]}, run / "last.pt")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work", help="caches and checkpoints")
    parser.add_argument("--name", default="run", help="folder of this run inside --work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vision-steps", type=int, default=300)
    parser.add_argument("--bank", type=int, default=40_000, help="training scenes")
    parser.add_argument("--steps", type=int, default=1150)
    parser.add_argument("--turn", type=int, default=275, help="steps of the first mix of questions")
    parser.add_argument("--first-batch", type=int, default=16, help="images a step until then")
    parser.add_argument("--batch", type=int, default=28, help="images a step afterwards")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's")
    parser.add_argument("--muon-lr", type=float, default=0.01, help="Muon's; 0: AdamW for all")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--fall", type=int, default=400, help="steps over which the rates fall to zero")
    parser.add_argument("--keep-every", type=int, default=0, help="keep the weights every so many steps too")
    parser.add_argument("--check-every", type=int, default=200)
    parser.add_argument("--check-scenes", type=int, default=100)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
