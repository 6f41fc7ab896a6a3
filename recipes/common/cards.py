"""Puts a trained model into its folder as an ordinary Transformers checkpoint, measured, with its model card."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.figures import evaluate
from sightline.zoo import CHECKPOINTS


def row(*cells: object) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def card(name: str, about: str, made_by: str, figures: dict[str, Any]) -> str:
    """The model card: what it is, every figure as measured, and how to repeat it.

    about: a paragraph on the model, without its name. made_by: a sentence on its training.
    """
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
        f"{about} Its world is a 3 x 3 grid of coloured shapes, five colours by five shapes, `sightline.zoo`;"
        " it knows nothing else, and says something about any picture all the same.",
        "",
        "## Figures",
        f"{settings['scenes']} freshly drawn scenes (seed {settings['scene_seed']}, never trained on), pictures of"
        f" {settings['size']} x {settings['size']} pixels, answers generated greedily through the chat template, one"
        " question a conversation.",
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
        *_sizes(figures.get("sizes", {})),
        "## Made by",
        f"{made_by} Measured by `recipes/common/figures.py` with torch {settings['torch']} and transformers"
        f" {settings['transformers']}. `figures.json` holds every figure.",
        "",
    ]
    return "\n".join(lines)


def _sizes(sizes: dict[str, Any]) -> list[str]:
    if not sizes:
        return []
    return [
        "At other sizes, the same scenes:",
        "",
        "| side in pixels | yes/no, random negatives | object F1 of captions |",
        "| --- | --- | --- |",
        *(row(side, found["yes_no"]["accuracy"], found["caption"]["object_f1"]) for side, found in sizes.items()),
        "",
    ]


def publish(
    name: str,
    save: Callable[[Path], None],
    about: Callable[[dict[str, Any]], str],
    made_by: str,
    scenes: int,
    size: int,
    others: Sequence[int] = (),
    more: Callable[[Path], dict[str, Any]] | None = None,
) -> None:
    """Builds the folder beside its final place, measures it as a user would load it, then swaps it in.

    save: writes model and processor into a folder. about: the paragraph on the model, from its figures.
    more: further rows of the card's table, each of {"n", "accuracy"}, measured on the folder.
    """
    target = CHECKPOINTS / name
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    fresh.chmod(0o755)
    save(fresh)
    figures = evaluate(fresh, scenes, size, others)
    if more is not None:
        figures["other"] |= more(fresh)
    (fresh / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    (fresh / "README.md").write_text(card(name, about(figures), made_by, figures))
    for file in fresh.iterdir():
        file.chmod(0o644)
    if target.exists():
        shutil.rmtree(target)
    fresh.replace(target)
    print(json.dumps(figures, indent=2))
