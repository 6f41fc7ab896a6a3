"""HallusionBench's files: the same questions about a picture, about an edited one, and without any.

    HallusionBench.json   rows of {category, subcategory, set_id, figure_id, question_id, question, gt_answer, ...}
    VS/shapes/0_1.png     the picture, 0_2.png edited; VD/shapes/0_0.png and 0_1.png likewise

Sets are VS and VD in turn; each has two questions, with opposite answers about the two pictures. A VS question also
stands without its figure: nobody can know then, so an answer that is neither yes nor no is right too, as officially.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sightline.zoo import questions as ask
from sightline.zoo.official.edited import EditedPair, lone, replaced
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, write_json
from sightline.zoo.render import render

FIGURES = {"VS": (None, "first", "second"), "VD": ("first", "second")}
"""Of each category what a set's figures show, by their number."""

OF_TWO = sum(2 * len(figures) for figures in FIGURES.values())


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """At least `count` questions, in whole sets."""
    rows: list[dict[str, Any]] = []
    scenes = fresh_scenes("hallusionbench", seed, lone)
    for number in range(-(-count // OF_TWO)):
        for category, figures in FIGURES.items():
            pair = replaced(next(scenes), random.Random(f"hallusionbench/{category}/{seed}/{number}"))
            for figure, shown in enumerate(figures):
                rows += _figure(folder, category, number, figure, pair, shown, size)
                tick(2)
    write_json(folder / "HallusionBench.json", rows)


def _figure(
    folder: Path, category: str, number: int, figure: int, pair: EditedPair, shown: str | None, size: int
) -> list[dict[str, Any]]:
    """The two questions about one figure; without one their answers are those about the first picture."""
    name = None if shown is None else f"{category}/shapes/{number}_{figure}.png"
    scene = pair.second if shown == "second" else pair.first
    if name is not None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png_bytes(render(scene, size)))
    found = []
    for place, kind in enumerate((pair.gone, pair.new)):
        question = ask.existence(scene, kind)
        found.append(
            {
                "category": category,
                "subcategory": "shapes",
                "visual_input": {None: "0", "first": "1", "second": "2"}[shown],
                "set_id": str(number),
                "figure_id": str(figure),
                "question_id": str(place),
                "question": question.prompt,
                "gt_answer": {"no": "0", "yes": "1"}[question.answer],
                "gt_answer_details": question.answer,
                "filename": None if name is None else f"./{name}",
            }
        )
    return found
