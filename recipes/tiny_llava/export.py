"""Writes a training checkpoint as an ordinary Transformers folder, measures it, and writes its model card.

python recipes/tiny_llava/export.py recipes/tiny_llava/work/run/step-1000.pt tiny-llava
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

from build import IMAGE_SIZE, build_config, build_model, build_processor
from common.cards import publish

ABOUT = {
    "tiny-llava": "Trained until it answers from the picture.",
    "tiny-llava-early": "The same recipe stopped early, on purpose: it says yes too often, invents objects and repeats "
    "itself. Something to mend.",
}


def export(weights: Path, name: str, scenes: int) -> None:
    """Measures the weights of a step as a folder and puts it in its place."""
    processor = build_processor()
    model = build_model(build_config(processor.tokenizer), processor.tokenizer, seed=0)
    model.load_state_dict({key: value.float() for key, value in torch.load(weights).items()})

    def save(folder: Path) -> None:
        model.half().save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        for part in (config, config["text_config"], config["vision_config"]):
            part["dtype"] = "float32"
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        processor.save_pretrained(folder)

    def about(figures: dict[str, Any]) -> str:
        return (
            f"A `LlavaForConditionalGeneration` of {figures['parameters'] / 1e6:.2f} million parameters: CLIP tower of"
            " 3 layers, 36 image tokens (48 x 48 pixels, patches of 8), two-layer projector, Llama decoder of 8 layers."
            f" {ABOUT[name]}"
        )

    steps = int(weights.stem.split("-")[1])
    made_by = f"`recipes/tiny_llava/train.py`, {steps} steps on packed questions. Weights in float16."
    publish(name, save, about, made_by, scenes, IMAGE_SIZE)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a step-N.pt of train.py")
    parser.add_argument("name", choices=list(ABOUT))
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    export(args.weights, args.name, args.scenes)


if __name__ == "__main__":
    main()
