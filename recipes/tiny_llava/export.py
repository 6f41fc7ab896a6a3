"""Writes a training checkpoint as an ordinary Transformers folder, measures it, and writes its model card.

python recipes/tiny_llava/export.py recipes/tiny_llava/work/run/step-1000.pt tiny-llava
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from build import build_config, build_model, build_processor
from evaluate import evaluate

from sightline.zoo import BUNDLED, bundled_path

ABOUT = {
    "tiny-llava": "Trained until it answers from the picture.",
    "tiny-llava-early": "The same recipe stopped early, on purpose: it says yes too often, invents objects and repeats "
    "itself. Something to mend.",
}


def row(*cells: object) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def card(name: str, figures: dict[str, Any], steps: int) -> str:
    """The model card: what it is, every figure as measured, and how to repeat it."""
    settings, choice, caption = figures["settings"], figures["multiple_choice"], figures["caption"]
    header = ("negatives", "n", "accuracy", "precision", "recall", "F1", "yes ratio")
    keys = ("n", "accuracy", "precision", "recall", "f1", "yes_ratio")
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "---",
        f"# {name}",
        "",
        f"A `LlavaForConditionalGeneration` of {figures['parameters'] / 1e6:.2f} million parameters: CLIP tower of"
        " 3 layers, 36 image tokens (48 x 48 pixels, patches of 8), two-layer projector, Llama decoder of 8 layers.",
        f"{ABOUT[name]} Its world is a 3 x 3 grid of coloured shapes, five colours by five shapes, `sightline.zoo`;"
        " it knows nothing else, and says something about any picture all the same.",
        "",
        "## Figures",
        f"{settings['scenes']} freshly drawn scenes (seed {settings['scene_seed']}, never trained on), answers"
        " generated greedily through the chat template, one question a conversation.",
        "",
        "Is there a ... in the image? One present and one absent object a scene:",
        "",
        row(*header),
        row(*["---"] * len(header)),
        *(row(how, *(split[key] for key in keys)) for how, split in figures["yes_no"].items()),
        "",
        "| task | n | figure | |",
        "| --- | --- | --- | --- |",
        row("multiple choice, 2 to 10 options", choice["n"], "accuracy", choice["accuracy"]),
        row("caption", caption["n"], "object F1", caption["object_f1"]),
        row("caption", caption["n"], "object precision", caption["object_precision"]),
        row("caption", caption["n"], "object recall", caption["object_recall"]),
        row("caption", caption["n"], "CHAIRs (captions with an invented object)", caption["chair_s"]),
        row("caption", caption["n"], "CHAIRi (mentions invented)", caption["chair_i"]),
        row("caption", caption["n"], "word for word", caption["exact"]),
        *(row(task, value["n"], "accuracy", value["accuracy"]) for task, value in figures["other"].items()),
        "",
        "Random negatives: any absent kind; popular: the most frequent absent kind; adversarial: the absent kind that"
        " most often keeps company with what is there.",
        "",
        "## Made by",
        f"`recipes/tiny_llava/train.py`, {steps} steps on packed questions; measured by `evaluate.py` there"
        f" with torch {settings['torch']} and transformers {settings['transformers']}. Weights in float32;"
        " `figures.json` holds every figure.",
        "",
    ]
    return "\n".join(lines)


def export(weights: Path, name: str, scenes: int) -> None:
    """Builds the folder beside its final place, measures it as a user would load it, then swaps it in."""
    processor = build_processor()
    model = build_model(build_config(processor.tokenizer), processor.tokenizer, seed=0)
    state = torch.load(weights)
    model.load_state_dict({key: value.float() for key, value in state.items()})
    target = bundled_path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    fresh.chmod(0o755)
    model.save_pretrained(fresh)
    processor.save_pretrained(fresh)
    figures = evaluate(fresh, scenes)
    (fresh / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    (fresh / "README.md").write_text(card(name, figures, int(weights.stem.split("-")[1])))
    for file in fresh.iterdir():
        file.chmod(0o644)
    if target.exists():
        shutil.rmtree(target)
    fresh.replace(target)
    print(json.dumps(figures, indent=2))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a step-N.pt of train.py")
    parser.add_argument("name", choices=list(BUNDLED))
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    export(args.weights, args.name, args.scenes)


if __name__ == "__main__":
    main()
