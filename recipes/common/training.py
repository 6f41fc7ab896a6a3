"""The second stage, the same for all families: the language model learns from packed questions, the tower frozen.

Killed at any time it continues from its last checkpoint. Learning rates warm up, stay, and fall to zero over the last
part of the steps; raising --steps of an unfinished run lengthens the flat part.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from common.data import END_WEIGHT, FIRST, LATER, Conversation, Mix, Packer, converse, draw_questions
from common.optim import Muon
from common.packed import Prefix, answer
from sightline.zoo import questions as ask
from sightline.zoo.world import NEGATIVES, Scene, draw_scene, draw_scenes

TRAIN_SEED, CHECK_SEED = 1, 2

See = Callable[[list[Scene], random.Random], Prefix]
"""What stands before the words, for the pictures of these scenes."""


@dataclass(frozen=True)
class Pupil:
    """What is trained, and how it is shown pictures.

    see: for a training step. checks: for the checks, by the name that their figures carry (one may be ""). projectors:
    the modules between tower and language model, trained with it.
    """

    model: Any
    packer: Packer
    see: See
    checks: dict[str, See]
    projectors: tuple[nn.Module, ...]


def save_atomically(thing: object, path: Path) -> None:
    """A reader, or a restart after a kill, sees the old file or the new one, never half of one."""
    partial = path.with_suffix(".partial")
    torch.save(thing, partial)
    partial.replace(path)


@torch.no_grad()
def check(pupil: Pupil, see: See, scenes: list[Scene]) -> dict[str, float]:
    """Share of answers said exactly, by task and by kind of negative.

    Teacher-forced, which equals greedy decoding here.
    """
    pupil.model.eval()
    right: dict[str, list[float]] = defaultdict(list)
    for start in range(0, len(scenes), 50):
        part = scenes[start : start + 50]
        asked = []
        for index, scene in enumerate(part, start):
            rng = random.Random(f"check/{index}")
            balanced = [question for how in NEGATIVES for question in ask.pope(scene, how, rng)]
            drawn = [*balanced, *draw_questions(scene, Mix(existence=0, attribute=2, choice=3), rng)]
            asked.append([Conversation((question,)) for question in drawn])
        batch = pupil.packer.pack(asked)
        said = answer(pupil.model, batch, see(part, random.Random(f"check/{start}")))
        good = torch.ones(len(batch.asked))
        good.scatter_reduce_(0, said.owners, (said.logits.argmax(-1) == said.labels).float(), "amin")
        for question, value in zip(batch.asked, good.tolist(), strict=True):
            right[question.task if question.task != "existence" else f"pope {question.split}"].append(value)
            if question.task == "existence" and question.split == "random":
                right[f"random {question.answer}"].append(value)
            if question.task == "choice":
                right[f"choice of {'2-4' if len(question.options) < 5 else '5-10'}"].append(value)
    pupil.model.train()
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


def language_optimisers(pupil: Pupil, lr: float, muon_lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the decoder's matrices, AdamW for projectors, embeddings and norms; muon_lr 0 gives AdamW everything."""
    language = pupil.model.model.language_model
    matrices = [p for p in language.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    trained = [*language.parameters(), *(p for part in pupil.projectors for p in part.parameters())]
    others = [p for p in trained if id(p) not in inside]
    if muon_lr == 0:
        return [torch.optim.AdamW([*matrices, *others], lr=lr, weight_decay=0.01, betas=(0.9, 0.98))]
    return [Muon(matrices, lr=muon_lr), torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.98))]


def train_language(pupil: Pupil, args: argparse.Namespace) -> None:
    """The whole second stage."""
    run = args.work / args.name
    run.mkdir(parents=True, exist_ok=True)
    model = pupil.model
    check_scenes = list(draw_scenes(args.check_scenes, CHECK_SEED))
    optimisers = language_optimisers(pupil, args.lr, args.muon_lr)
    later = replace(LATER, caption=args.captions)
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
        mix, images = (FIRST, args.first_batch) if step < args.turn else (later, args.batch)
        scenes = [draw_scene(TRAIN_SEED * 1_000_000 + index) for index in rng.sample(range(args.bank), images)]
        batch = pupil.packer.pack([converse(draw_questions(scene, mix, rng), rng) for scene in scenes])
        said = answer(model, batch, pupil.see(scenes, rng))
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
        if (step + 1) % args.check_every == 0 or step + 1 == args.steps:
            figures = {
                f"{name}{task}": value
                for name, see in pupil.checks.items()
                for task, value in check(pupil, see, check_scenes).items()
            }
            print(f"{step + 1} right {json.dumps({k: round(v, 3) for k, v in figures.items()})}", flush=True)
            with (run / "checks.jsonl").open("a") as lines:
                lines.write(json.dumps({"step": step + 1, **figures}) + "\n")
            state = {"model": model.state_dict(), "step": step + 1}
            save_atomically({k: v.half() for k, v in model.state_dict().items()}, run / f"step-{step + 1}.pt")
            save_atomically({**state, "optimisers": [o.state_dict() for o in optimisers]}, run / "last.pt")


def options(about: str | None, work: Path) -> argparse.ArgumentParser:
    """The command line of a train.py: a family adds its own, and may set other defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=work, help="caches and checkpoints")
    parser.add_argument("--name", default="run", help="folder of this run inside --work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vision-steps", type=int, default=300)
    parser.add_argument("--bank", type=int, default=40_000, help="training scenes")
    parser.add_argument("--steps", type=int, default=1150)
    parser.add_argument("--turn", type=int, default=275, help="steps of the first mix of questions")
    parser.add_argument("--first-batch", type=int, default=16, help="images a step until then")
    parser.add_argument("--batch", type=int, default=28, help="images a step afterwards")
    parser.add_argument("--captions", type=float, default=LATER.caption, help="captions an image afterwards")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's")
    parser.add_argument("--muon-lr", type=float, default=0.01, help="Muon's; 0: AdamW for all")
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--fall", type=int, default=400, help="steps over which the rates fall to zero")
    parser.add_argument("--keep-every", type=int, default=0, help="keep the weights every so many steps too")
    parser.add_argument("--check-every", type=int, default=100)
    parser.add_argument("--check-scenes", type=int, default=100)
    return parser
