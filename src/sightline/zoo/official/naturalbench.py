"""NaturalBench's table: a row a group of two pictures and two questions, the answers yes, no, no, yes or A, B, B, A.

    data/train-00000-of-00001.parquet    Image_0, Image_1, Question_0, Question_1, Question_Type, ...

The second picture is the first with one thing changed; groups are yes-no and of two options in turn.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sightline.zoo import questions as ask
from sightline.zoo.official.edited import EditedPair, lone, replaced
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, write_parquet
from sightline.zoo.render import render

COLUMNS = {
    "Index": "string",
    "Image_0": "image",
    "Image_1": "image",
    "Question_0": "string",
    "Question_1": "string",
    "Question_Type": "string",
}
ENDINGS = {"yes_no": " Please answer yes or no.", "multiple_choice": f"\n{ask.CHOICE_ENDINGS[0]}"}
"""What a question of each type ends in, as the bundled models know it; the file has the questions without it."""


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """At least `count` questions, in whole groups of four."""
    rows: list[dict[str, Any]] = []
    scenes = fresh_scenes("naturalbench", seed, lone)
    for number in range(-(-count // 4)):
        pair = replaced(next(scenes), random.Random(f"naturalbench/{seed}/{number}"))
        kind = tuple(ENDINGS)[number % 2]
        first, second = _questions(pair, kind)
        pictures = {
            "Image_0": png_bytes(render(pair.first, size)),
            "Image_1": png_bytes(render(pair.second, size)),
        }
        about = {"Index": str(number), "Question_0": first, "Question_1": second, "Question_Type": kind}
        rows.append({**about, **pictures})
        tick(4)
    write_parquet(folder / "data" / "train-00000-of-00001.parquet", COLUMNS, rows)


def _questions(pair: EditedPair, kind: str) -> tuple[str, str]:
    """The two, without the ending of their type."""
    if kind == "yes_no":
        found = [ask.existence(pair.first, each, ask.EXISTENCE_PHRASES[1]).prompt for each in (pair.gone, pair.new)]
    else:
        both = ((pair.gone, pair.new), (pair.new, pair.gone))
        found = [ask.lettered("Which of these is in the image?", (a.name, b.name), 0).prompt for a, b in both]
    first, second = (text.removesuffix(ENDINGS[kind]) for text in found)
    return first, second
