"""Trains one of the small Qwens; killed at any time it continues from its last checkpoint.

    python recipes/tiny_qwen/train.py tiny-qwen2_5-vl
    python recipes/tiny_qwen/train.py tiny-qwen3-vl

Stages: the language model begins from tiny-llava's (start.py), the tower learns from tiny-llava's patches (vision.py),
then all learns from tiny-llava's states at the image tokens (states.py); at last language model and mergers learn from
packed questions, the tower frozen (common/training.py). Every step has pictures of one size (pictures.py).
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
from quick import quicken
from start import begin, load_teacher
from states import train_states
from vision import train_vision

from sightline.zoo.world import Scene


def main() -> None:
    """Command line."""
    parser = options(__doc__, Path(__file__).parent / "work")
    parser.add_argument("model", choices=list(KINDS))
    parser.add_argument("--states-steps", type=int, default=100, help="steps on the image's states")
    parser.add_argument("--begin", type=Path, help="a folder of export.py's to go on from, straight to the questions")
    parser.set_defaults(vision_steps=400, steps=50, turn=0, batch=16, lr=5e-4, muon_lr=0.005, warmup=5, fall=40)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work = args.work / args.model
    args.work.mkdir(parents=True, exist_ok=True)
    kind, tokenizer = KINDS[args.model], build_tokenizer()
    image_processor = build_image_processor(kind)
    model = build_model(kind, tokenizer, args.seed)
    quicken(model.model.visual)
    seen = args.work / "vision.pt"
    if args.begin is not None:
        model.load_state_dict(type(model).from_pretrained(args.begin).state_dict())
    elif seen.exists():
        model.load_state_dict(torch.load(seen))
    else:
        teacher = load_teacher()
        begin(model, tokenizer, teacher)
        train_vision(
            model, image_processor, teacher, args.vision_steps, TRAIN_SEED + 100, args.work / "vision-partial.pt"
        )
        save_atomically(model.state_dict(), seen)
    visual = model.model.visual
    mergers = (visual.merger, *getattr(visual, "deepstack_merger_list", ()))
    packer = Packer(tokenizer, kind.form)

    def see(scenes: list[Scene], rng: random.Random) -> Prefix:
        grid = draw_grid(rng)
        return show(model, image_processor, packer.head, pictures(scenes, grid, rng), grid)

    def at(grid: Grid, scenes: list[Scene], rng: random.Random) -> Prefix:
        return show(model, image_processor, packer.head, pictures(scenes, grid), grid)

    checks = {"": partial(at, SMALL), "larger ": partial(at, LARGE)}
    pupil = Pupil(model, packer, see, checks=checks, projectors=mergers)
    known = args.work / "states.pt"
    if args.begin is None and known.exists():
        model.load_state_dict(torch.load(known))
    elif args.begin is None:
        kept = args.work / "states-partial.pt"
        train_states(pupil, image_processor, load_teacher(), args.states_steps, TRAIN_SEED + 200, kept)
        save_atomically(model.state_dict(), known)
    visual.requires_grad_(False)
    for merger in mergers:
        merger.requires_grad_(True)
    train_language(pupil, args)


if __name__ == "__main__":
    main()
