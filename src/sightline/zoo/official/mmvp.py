"""MMVP's table: pairs of pictures that differ in one colour, one question about both, the right answers opposite.

data/train-00000-of-00001.parquet    Index (from 1), image, Question, Options "(a) red star (b) blue star", ...
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sightline.zoo import questions as ask
from sightline.zoo.official.edited import recoloured
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, write_parquet
from sightline.zoo.render import render

QUESTION = "Which of these is in the image?"

COLUMNS = {
    "Index": "string",
    "image": "image",
    "Question": "string",
    "Options": "string",
    "Correct Answer": "string",
}


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """`count` questions, one more where it is odd."""
    rows: list[dict[str, Any]] = []
    scenes = fresh_scenes("mmvp", seed, ask.single_shapes)
    for number in range(-(-count // 2)):
        scene, rng = next(scenes), random.Random(f"mmvp/{seed}/{number}")
        pair = recoloured(scene, rng.choice(ask.single_shapes(scene)), rng)
        kinds = [pair.gone, pair.new]
        rng.shuffle(kinds)
        options = f"(a) {kinds[0]} (b) {kinds[1]}"
        for shown, right in ((pair.first, pair.gone), (pair.second, pair.new)):
            rows.append(
                {
                    "Index": str(len(rows) + 1),
                    "image": png_bytes(render(shown, size)),
                    "Question": QUESTION,
                    "Options": options,
                    "Correct Answer": ("(a)", "(b)")[kinds.index(right)],
                }
            )
        tick(2)
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", COLUMNS, rows)
