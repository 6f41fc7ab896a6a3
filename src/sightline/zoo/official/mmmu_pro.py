"""MMMU-Pro's folders: its three configurations, each `test-00000-of-00001.parquet` with the official columns.

The three ask the same questions under the same ids, with ten options or four of them. Subjects: Objects (which of these
is there), Colours (of a shape; the world has five, so five options are all there are), Places (what is in the top
left).

In the official `vision` configuration the question and its options are drawn into the picture. Here they are not: the
bundled models see 48 x 48 pixels in 36 tokens and cannot read. So `vision` holds the scene alone, and carries the
question as text in a column `question` that the official files do not have.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.zoo import questions as ask
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, write_parquet
from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, KINDS, Scene, negatives

TEN, FOUR, VISION = "standard (10 options)", "standard (4 options)", "vision"
CONFIGS = (TEN, FOUR, VISION)
MOST, FEW = 10, 4
IMAGES = 7
STANDARD = {
    "id": "string",
    "question": "string",
    "options": "string",
    "explanation": "string",
    **{f"image_{number}": "image" for number in range(1, IMAGES + 1)},
    "img_type": "string",
    "answer": "string",
    "topic_difficulty": "string",
    "subject": "string",
}
COLUMNS = {
    TEN: STANDARD,
    FOUR: STANDARD,
    VISION: {"id": "string", "image": "image", "options": "string", "answer": "string", "subject": "string"}
    | {"question": "string"},
}


@dataclass(frozen=True)
class Stem:
    """A question before its options are in order."""

    text: str
    right: str
    wrong: tuple[str, ...]


def _objects(scene: Scene, rng: random.Random) -> Stem:
    absent = negatives(scene, MOST - 1, "random", rng)
    return Stem("Which of these is in the image?", rng.choice(scene.kinds).name, tuple(kind.name for kind in absent))


def _colours(scene: Scene, rng: random.Random) -> Stem:
    question = ask.colour(scene, rng.choice(ask.single_shapes(scene)))
    wrong = [colour for colour in COLOURS if colour != question.answer]
    return Stem(question.prompt, question.answer, tuple(rng.sample(wrong, len(wrong))))


def _places(scene: Scene, rng: random.Random) -> Stem:
    item = rng.choice(scene.items)
    others = rng.sample([kind.name for kind in KINDS if kind != item.kind], MOST - 1)
    return Stem(ask.position(scene, item.cell).prompt, item.kind.name, tuple(others))


SUBJECTS: dict[str, Callable[[Scene, random.Random], Stem]] = {
    "Objects": _objects,
    "Colours": _colours,
    "Places": _places,
}
TURNS = ("Objects", "Colours", "Objects", "Places")
"""Question by question, over and over."""


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """`count` questions in each of the three configurations."""
    scenes = fresh_scenes("mmmu-pro", seed, ask.single_shapes)
    rows: dict[str, list[dict[str, Any]]] = {config: [] for config in CONFIGS}
    for number in range(count):
        subject = TURNS[number % len(TURNS)]
        scene = next(scenes)
        stem = SUBJECTS[subject](scene, random.Random(f"mmmu-pro/{seed}/{number}"))
        about = {"id": f"test_{subject}_{number + 1}", "subject": subject}
        picture = png_bytes(render(scene, size))
        for config in CONFIGS:
            shown = {"image" if config == VISION else "image_1": picture}
            order = random.Random(f"mmmu-pro/{seed}/{number}/{FEW if config == FOUR else MOST}")
            rows[config].append({**about, **shown, **_questions(stem, config, order)})
        tick(1)
    for config in CONFIGS:
        write_parquet(folder / config / "test-00000-of-00001.parquet", COLUMNS[config], rows[config])


def _questions(stem: Stem, config: str, rng: random.Random) -> dict[str, str]:
    options = [stem.right, *stem.wrong[: (FEW if config == FOUR else MOST) - 1]]
    rng.shuffle(options)
    question = stem.text if config == VISION else f"<image 1> {stem.text}"
    fields = {"question": question, "options": repr(options), "answer": "ABCDEFGHIJ"[options.index(stem.right)]}
    kept = {} if config == VISION else {"explanation": "", "img_type": "['Drawings']", "topic_difficulty": "Easy"}
    return fields | kept
