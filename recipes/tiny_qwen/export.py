"""Writes a training checkpoint as an ordinary Transformers folder, measures it, and writes its model card.

python recipes/tiny_qwen/export.py recipes/tiny_qwen/work/tiny-qwen3-vl/run/step-1000.pt tiny-qwen3-vl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

from build import (
    KINDS,
    LARGEST,
    MERGE,
    PATCH,
    SMALLEST,
    Kind,
    build_image_processor,
    build_model,
    build_tokenizer,
    chat_template,
)
from common.cards import publish
from common.figures import EVALUATION_SEED, Speaker, yes_no_figures

from sightline.zoo.world import draw_scenes

ABOUT = {
    "tiny-qwen2_5-vl": "a tower of 4 layers with windows of 3 x 3 tokens in two of them, rotary positions alone and so"
    " no knowledge of where in the picture a patch is; decoder of 8 layers, M-RoPE in three"
    " sections (1, 1, 14 of 16 rotations).",
    "tiny-qwen3-vl": "a tower of 4 layers with learned positions that are stretched to the picture; decoder of 8"
    " layers with norms on queries and keys, interleaved M-RoPE, DeepStack: what the"
    " tower's first three layers see is added behind the decoder's first three.",
}


def processor_settings(kind: Kind) -> dict[str, Any]:
    """processor_config.json as the family's own processor saves it, video part included, which no picture needs."""
    images = build_image_processor(kind).to_dict()
    shared = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "size")
    videos = {
        **{name: images[name] for name in shared},
        "video_processor_type": "Qwen3VLVideoProcessor" if kind.prefix == "Qwen3VL" else "Qwen2VLVideoProcessor",
        "do_sample_frames": False,
        "fps": 2,
        "min_frames": 4,
        "max_frames": 16,
    }
    return {"processor_class": f"{kind.prefix}Processor", "image_processor": images, "video_processor": videos}


def save_folder(folder: Path, kind: Kind, weights: dict[str, torch.Tensor]) -> None:
    """Model in half precision, loaded as float32; tokenizer, processor settings and chat template."""
    tokenizer = build_tokenizer()
    model = build_model(kind, tokenizer, seed=0)
    model.load_state_dict(weights)
    model.half().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(processor_settings(kind), indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(chat_template(kind))


def without_deepstack(folder: Path, scenes: int) -> dict[str, Any]:
    """Yes/no on random negatives with nothing added behind the first layers: what DeepStack brings."""
    speaker = Speaker(folder, SMALLEST)
    for merger in speaker.model.model.visual.deepstack_merger_list:
        merger.linear_fc2.requires_grad_(False)
        merger.linear_fc2.weight.zero_()
        merger.linear_fc2.bias.zero_()
    drawn = list(draw_scenes(scenes, EVALUATION_SEED))
    found = yes_no_figures(speaker, drawn, "random")
    return {"yes/no, random negatives, DeepStack's additions left out": found}


def export(weights: Path, name: str, scenes: int) -> None:
    """Measures the weights of a step as a folder and puts it in its place."""
    kind, steps = KINDS[name], int(weights.stem.split("-")[1])

    def about(figures: dict[str, Any]) -> str:
        return (
            f"A `{kind.prefix}ForConditionalGeneration` of {figures['parameters'] / 1e6:.2f} million parameters for"
            f" pictures of any size and shape: patches of {PATCH} pixels merged {MERGE} x {MERGE}, so that"
            f" {SMALLEST} x {SMALLEST} pixels make 36 image tokens and {LARGEST} x {LARGEST}, the most, 81 (smaller and"
            f" larger pictures are resized to that range); {ABOUT[name]}"
        )

    made_by = (
        f"`recipes/tiny_qwen/train.py {name}`: the language model began from `tiny-llava`'s, the tower learned from"
        f" `tiny-llava`'s patches; then {steps} steps on packed questions (`recipes/README.md` tells the whole course)."
        " Weights in float16, computed with in float32."
    )
    state = torch.load(weights)
    publish(
        name,
        lambda folder: save_folder(folder, kind, state),
        about,
        made_by,
        scenes,
        SMALLEST,
        (48, LARGEST),
        (lambda folder: without_deepstack(folder, scenes)) if kind.prefix == "Qwen3VL" else None,
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a step-N.pt of train.py")
    parser.add_argument("name", choices=list(KINDS))
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    export(args.weights, args.name, args.scenes)


if __name__ == "__main__":
    main()
