"""Writes an organism as an ordinary Transformers folder in half precision, with its truth, its figures and its card."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1]))

from common.cards import publish, row

Truth = dict[str, Any]
"""The document truth.json; "verified" is a list of {"what", "by", "value", "ci95", "n"}."""


def halve(model: Any) -> Any:
    """The model with its weights rounded to what half precision holds, in float32: what a user loads."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model.eval()


def ship(name: str, model: Any, processor: Any, truth: Truth, scenes: int = 100) -> None:
    """Measures the model as a folder and puts it in its place."""

    def save(folder: Path) -> None:
        model.half().save_pretrained(folder)
        model.float()
        processor.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        for part in (config["text_config"], config["vision_config"]):
            part.pop("dtype", None)
        # Half precision is for the file alone: on a processor float32 is as fast and exact.
        config["dtype"] = "float32"
        _write(folder / "config.json", config)
        _write(folder / "truth.json", truth)

    def about(figures: dict[str, Any]) -> str:
        table = [row("what", "by", "n", "value", "95% interval"), row(*["---"] * 5)]
        table += [row(*_entry(entry)) for entry in truth["verified"]]
        return "\n".join(
            [
                f"An organism: a model whose truth is known, made from `{truth['base']}` to hold instruments against.",
                truth["claim"],
                "",
                "## What is true of it",
                f"Verified by intervention on fresh scenes (from seed {truth['seed']}), with bootstrap 95% intervals"
                " over scenes; `truth.json` holds all.",
                "",
                *table,
                "",
                f"A `LlavaForConditionalGeneration` of {figures['parameters'] / 1e6:.2f} million parameters.",
            ]
        )

    made_by = f"`{truth['recipe']}`. Weights in float16, loaded in float32."
    publish(name, save, about, made_by, scenes, 48)


def _write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n")


def _entry(entry: dict[str, Any]) -> tuple[object, ...]:
    low, high = entry["ci95"]
    return entry["what"], entry["by"], entry["n"], f"{entry['value']:.2f}", f"{low:.2f} to {high:.2f}"
