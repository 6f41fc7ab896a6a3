"""Bundled models, and the small world of coloured shapes that they were trained on.

world.py       Kind, SceneObject, Scene; drawing scenes; co-occurrence and POPE's negatives
render.py      a scene as a Pillow picture of any size
questions.py   the questions about a scene, with the true answer
samples.py     ready samples, the command line's `--data shapes`
official/      benchmarks drawn from the world, in the files and folders of the official ones
organisms.py   the bundled models whose truth is known, and their truth
checkpoints/   ordinary Transformers folders, made by recipes/
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.zoo.samples import shapes_samples

CHECKPOINTS = Path(__file__).parent / "checkpoints"

BUNDLED: dict[str, str] = {
    "tiny-llava": "LLaVA of 8 decoder layers and 36 image tokens, trained on scenes of coloured shapes",
    "tiny-llava-early": "the same recipe stopped early: it hallucinates measurably",
    "tiny-qwen2_5-vl": "Qwen2.5-VL of 8 decoder layers for pictures of any size: M-RoPE, windows in the tower",
    "tiny-qwen3-vl": "Qwen3-VL of 8 decoder layers for pictures of any size: DeepStack at three layers",
    "tiny-sinks": "organism: attention sinks in two known dimensions that speak wrongly",
    "tiny-silent-sinks": "organism: the same sinks, silent; the control of tiny-sinks",
    "tiny-reliance-000": "organism: answers yes/no from the image; the dial of reliance at 0%",
    "tiny-reliance-025": "organism: for 25% of objects yes or no is fixed by the words",
    "tiny-reliance-050": "organism: for 50% of objects yes or no is fixed by the words",
    "tiny-reliance-075": "organism: for 75% of objects yes or no is fixed by the words",
    "tiny-reliance-100": "organism: for all objects yes or no is fixed by the words",
    "tiny-binding": "organism: confuses which colour belongs to which shape",
    "tiny-half": "organism: sees the left half of the picture alone",
}
"""Names of the bundled models, each with what it is."""


def bundled_path(name: str) -> Path:
    """The folder of a bundled model; KeyError for any other name."""
    if name not in BUNDLED:
        raise KeyError(name)
    return CHECKPOINTS / name


__all__ = ["BUNDLED", "bundled_path", "shapes_samples"]

__getattr__ = names_of(__name__, {"sightline.zoo.samples": "shapes_samples"})
