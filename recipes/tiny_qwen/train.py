"""Trains one of the small Qwens from nothing; killed at any time it continues from its last checkpoint.

    python recipes/tiny_qwen/train.py tiny-qwen2_5-vl
    python recipes/tiny_qwen/train.py tiny-qwen3-vl

Stages: vision tower with its words (vision.py), then language model and mergers on packed questions, the tower frozen.
Every step has pictures of one size; half of the steps have the smallest (pictures.py).
"""

from __future__ import annotations

import random
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1]))

from build import KINDS, build_image_processor, build_model, build_tokenizer
from common.data import Packer
from common.packed import Prefix
from common.training import TRAIN_SEED, Pupil, options, save_atomically, train_language
from pictures import LARGE, SMALL, Grid, draw_grid, pictures, show
from vision import train_vision

from sightline.zoo.world import Scene


def main() -> None:
    """Command line."""
    parser = options(__doc__, Path(__file__).parent / "work")
    parser.add_argument("model", choices=list(KINDS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work = args.work / args.model
    args.work.mkdir(parents=True, exist_ok=True)
    kind, tokenizer = KINDS[args.model], build_tokenizer()
    image_processor = build_image_processor(kind)
    model = build_model(kind, tokenizer, args.seed)
    seen = args.work / "vision.pt"
    if seen.exists():
        model.load_state_dict(torch.load(seen))
    else:
        train_vision(model, kind, image_processor, tokenizer, args.vision_steps, TRAIN_SEED + 100)
        save_atomically(model.state_dict(), seen)
    visual = model.model.visual
    mergers = (visual.merger, *getattr(visual, "deepstack_merger_list", ()))
    visual.requires_grad_(False)
    for merger in mergers:
        merger.requires_grad_(True)
    packer = Packer(tokenizer, kind.form)

    def see(scenes: list[Scene], rng: random.Random) -> Prefix:
        grid = draw_grid(rng)
        return show(model, image_processor, packer.head, pictures(scenes, grid, rng), grid)

    def at(grid: Grid, scenes: list[Scene], rng: random.Random) -> Prefix:
        return show(model, image_processor, packer.head, pictures(scenes, grid), grid)

    train_language(
        Pupil(model, packer, see, checks={"": partial(at, SMALL), "large ": partial(at, LARGE)}, projectors=mergers),
        args,
    )


if __name__ == "__main__":
    main()
