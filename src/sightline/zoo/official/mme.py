"""MME's folders: one a subtask, in it a picture and a text file of two questions, the first answered Yes, the other No.

    existence/000001.png    existence/000001.txt      "question <tab> answer" on each of its two lines

Four subtasks mean something in this world and have their official names: existence, count, position, color. Left out
are posters, celebrity, scene, landmark, artwork, OCR and all of cognition.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from sightline.zoo import questions as ask
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, shares
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, GRID, Scene, negatives

PHRASE = ask.EXISTENCE_PHRASES[1]
COUNTED = (1, 2, 3)
"""The numbers that questions deny."""


def _existence(scene: Scene, rng: random.Random) -> tuple[Question, Question]:
    absent = negatives(scene, 1, "random", rng)[0]
    return ask.existence(scene, rng.choice(scene.kinds), PHRASE), ask.existence(scene, absent, PHRASE)


def _count(scene: Scene, rng: random.Random) -> tuple[Question, Question]:
    shape = rng.choice(scene.items).kind.shape
    number = scene.count(shape=shape)
    other = rng.choice([wrong for wrong in COUNTED if wrong != number])
    return ask.verify_count(scene, shape, number), ask.verify_count(scene, shape, other)


def _position(scene: Scene, rng: random.Random) -> tuple[Question, Question]:
    """Denied is a cell where the same object does not stand: that it is in the picture is no answer."""
    kind, cell = (item := rng.choice(scene.items)).kind, item.cell
    held = {item.cell for item in scene.items if item.kind == kind}
    other = rng.choice([free for free in range(GRID * GRID) if free not in held])
    return ask.place(scene, kind, cell), ask.place(scene, kind, other)


def _color(scene: Scene, rng: random.Random) -> tuple[Question, Question]:
    shape = rng.choice(ask.single_shapes(scene))
    truth = ask.colour(scene, shape).answer
    other = rng.choice([colour for colour in COLOURS if colour != truth])
    return ask.verify_colour(scene, shape, truth), ask.verify_colour(scene, shape, other)


SUBTASKS: dict[str, Callable[[Scene, random.Random], tuple[Question, Question]]] = {
    "existence": _existence,
    "count": _count,
    "position": _position,
    "color": _color,
}


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """`count` questions in all (one more where it is odd), as many pictures in each subtask as can be."""
    for (subtask, make), pictures in zip(SUBTASKS.items(), shares((count + 1) // 2, len(SUBTASKS)), strict=True):
        if not pictures:
            continue
        (folder / subtask).mkdir()
        fits = ask.single_shapes if subtask == "color" else bool
        scenes = fresh_scenes(f"mme/{subtask}", seed, fits)
        for number in range(1, pictures + 1):
            scene, stem = next(scenes), folder / subtask / f"{number:06d}"
            pair = make(scene, random.Random(f"mme/{subtask}/{seed}/{number}"))
            stem.with_suffix(".png").write_bytes(png_bytes(render(scene, size)))
            text = "".join(f"{drawn.prompt}\t{drawn.answer.capitalize()}\n" for drawn in pair)
            stem.with_suffix(".txt").write_text(text, encoding="utf-8")
            tick(2)
