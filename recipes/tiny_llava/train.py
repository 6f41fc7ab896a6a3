"""Trains tiny-llava from nothing; killed at any time it continues from its last checkpoint.

    python recipes/tiny_llava/train.py --work recipes/tiny_llava/work

Stages: vision tower with its words (vision.py), then the language model and projector on packed questions, the tower
frozen, its features of all training scenes kept in the work folder (common/training.py).
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

sys.path.append(str(Path(__file__).parents[1]))

from build import FORM, build_config, build_model, build_processor
from common.data import Packer
from common.packed import Prefix
from common.training import TRAIN_SEED, Pupil, options, save_atomically, train_language
from vision import pixels, tower_features, train_vision

from sightline.zoo.world import Scene, draw_scenes


@torch.no_grad()
def scene_features(model: LlavaForConditionalGeneration, scenes: list[Scene]) -> Tensor:
    """(n, 36, width) float16: the frozen tower's features."""
    return torch.cat([tower_features(model, pixels(scenes[i : i + 256])).half() for i in range(0, len(scenes), 256)])


def start_model(args: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """Model after the vision stage, trained or taken from the work folder."""
    model = build_model(build_config(tokenizer), tokenizer, args.seed)
    seen = args.work / "vision.pt"
    if seen.exists():
        model.load_state_dict(torch.load(seen))
    else:
        train_vision(model, tokenizer, args.vision_steps, TRAIN_SEED + 100)
        save_atomically(model.state_dict(), seen)
    model.model.vision_tower.requires_grad_(False)
    return model


def scene_bank(model: LlavaForConditionalGeneration, args: argparse.Namespace) -> Tensor:
    """Features of the training scenes, kept in the work folder: the tower is frozen, so each is computed once."""
    path = args.work / f"features-{args.bank}.pt"
    if not path.exists():
        save_atomically(scene_features(model, list(draw_scenes(args.bank, TRAIN_SEED))), path)
    return torch.load(path, mmap=True)


def show(model: LlavaForConditionalGeneration, head: list[int], features: Tensor) -> Prefix:
    """What stands before the words; `features`: (images, 36, vision width) of the frozen tower."""
    patches = model.model.multi_modal_projector(features.float())
    words = model.get_input_embeddings()(torch.tensor(head)).expand(len(patches), -1, -1)
    return Prefix(torch.cat([words, patches], dim=1), head=len(head), behind=len(head) + patches.shape[1])


def main() -> None:
    """Command line."""
    args = options(__doc__, Path(__file__).parent / "work").parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_processor().tokenizer
    model = start_model(args, tokenizer)
    packer, bank = Packer(tokenizer, FORM), scene_bank(model, args)
    kept: dict[int | None, Tensor] = {}

    def see(scenes: list[Scene], rng: random.Random) -> Prefix:
        return show(model, packer.head, bank[[scene.seed - TRAIN_SEED * 1_000_000 for scene in scenes]])

    def see_checked(scenes: list[Scene], rng: random.Random) -> Prefix:
        if scenes[0].seed not in kept:
            kept[scenes[0].seed] = scene_features(model, scenes)
        return show(model, packer.head, kept[scenes[0].seed])

    projectors = (model.model.multi_modal_projector,)
    train_language(Pupil(model, packer, see, checks={"": see_checked}, projectors=projectors), args)


if __name__ == "__main__":
    main()
