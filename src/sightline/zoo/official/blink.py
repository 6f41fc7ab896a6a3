"""BLINK's folders: one a subtask, in it `val-00000-of-00001.parquet` with the official columns.

Five of the fourteen subtasks mean something in this world and have their official names; three show one picture, two
show three. Left out: Art_Style, Forensic_Detection, Functional_Correspondence, IQ_Test, Multi-view_Reasoning,
Relative_Depth, Relative_Reflectance, Semantic_Correspondence, Visual_Correspondence. `prompt` holds the whole question
in the one form of multiple choice that the bundled models were trained on. They were trained on single pictures, and
the questions are only which of these objects is there and what colour a shape is: all five are outside what they
have learned.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.zoo import questions as ask
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, shares, write_parquet
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import GRID, KINDS, Scene, SceneObject

IMAGES = 4
COLUMNS = {
    "idx": "string",
    "question": "string",
    "sub_task": "string",
    **{f"image_{number}": "image" for number in range(1, IMAGES + 1)},
    "choices": "strings",
    "answer": "string",
    "prompt": "string",
}
OPTIONS = 4
CENTRE = GRID // 2

Pictures = list[Image.Image]
Drawn = tuple[str, Question, Pictures]


@dataclass(frozen=True)
class Subtask:
    """make: the stem, the lettered question and its pictures, from scenes that fit."""

    make: Callable[[Iterator[Scene], random.Random, int], Drawn]
    fits: Callable[[Scene], object] = bool


def _counting(scenes: Iterator[Scene], rng: random.Random, size: int) -> Drawn:
    scene = next(scenes)
    kind = rng.choice(scene.items).kind
    question = ask.count(scene, colour=kind.colour) if rng.random() < 0.5 else ask.count(scene, shape=kind.shape)
    numbers = rng.sample([number for number in map(str, range(1, 7)) if number != question.answer], OPTIONS - 1)
    return _lettered(question.prompt, question.answer, numbers, rng, [render(scene, size)])


def _object_localization(scenes: Iterator[Scene], rng: random.Random, size: int) -> Drawn:
    """What is in the top left? One of the wrong objects stands elsewhere in the picture, where there is another."""
    scene = next(scenes)
    item = rng.choice(scene.items)
    elsewhere = [kind for kind in scene.kinds if kind != item.kind]
    absent = [kind for kind in KINDS if kind not in scene.kinds]
    wrong = rng.sample(elsewhere, min(1, len(elsewhere)))
    wrong += rng.sample(absent, OPTIONS - 1 - len(wrong))
    names = [kind.name for kind in wrong]
    return _lettered(ask.position(scene, item.cell).prompt, item.kind.name, names, rng, [render(scene, size)])


def _spatial_relation(scenes: Iterator[Scene], rng: random.Random, size: int) -> Drawn:
    scene = next(scenes)
    first, second = rng.choice(_apart(scene))
    question = ask.relation(first, rng.choice(ask.SIDES), second)
    options = ("yes", "no")
    return (
        question.prompt,
        ask.lettered(question.prompt, options, options.index(question.answer)),
        [render(scene, size)],
    )


def _jigsaw(scenes: Iterator[Scene], rng: random.Random, size: int) -> Drawn:
    """The lower right corner is gone; the cut goes through objects, so what is left of them says which piece fits."""
    scene = next(scenes)
    other = replace(next(other for other in scenes if _cut(other) != _cut(scene)), background=scene.background)
    whole, half = render(scene, size), size // 2
    box = (half, half, size, size)
    torn = whole.copy()
    torn.paste((0, 0, 0), box)
    return _which(
        "Which image is the bottom right of the first image?", torn, whole.crop(box), render(other, size).crop(box), rng
    )


def _visual_similarity(scenes: Iterator[Scene], rng: random.Random, size: int) -> Drawn:
    """The like picture has the same objects in the same cells, each drawn a little differently."""
    scene = next(scenes)
    other = next(other for other in scenes if not set(other.kinds) & set(scene.kinds))
    other = replace(other, background=scene.background)
    like = replace(scene, items=tuple(_redrawn(item, rng) for item in scene.items))
    prompt = "The first image and which other image show the same shapes?"
    return _which(prompt, render(scene, size), render(like, size), render(other, size), rng)


SUBTASKS: dict[str, Subtask] = {
    "Counting": Subtask(_counting),
    "Jigsaw": Subtask(_jigsaw, lambda scene: len(_cut(scene)) > 1),
    "Object_Localization": Subtask(_object_localization),
    "Spatial_Relation": Subtask(_spatial_relation, lambda scene: _apart(scene)),
    "Visual_Similarity": Subtask(_visual_similarity, lambda scene: len(scene.kinds) > 1),
}


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """`count` questions in all, as many in each subtask as can be."""
    for (name, subtask), amount in zip(SUBTASKS.items(), shares(count, len(SUBTASKS)), strict=True):
        if not amount:
            continue
        scenes = fresh_scenes(f"blink/{name}", seed, subtask.fits)
        rows = []
        for number in range(1, amount + 1):
            drawn = subtask.make(scenes, random.Random(f"blink/{name}/{seed}/{number}"), size)
            rows.append(_row(name, number, *drawn))
            tick(1)
        write_parquet(folder / name / "val-00000-of-00001.parquet", COLUMNS, rows)


def _row(name: str, number: int, stem: str, question: Question, pictures: Pictures) -> dict[str, Any]:
    images = {f"image_{place}": png_bytes(picture) for place, picture in enumerate(pictures, start=1)}
    return {
        "idx": f"val_{name}_{number}",
        "question": stem,
        "sub_task": name,
        "choices": list(question.options),
        "answer": question.answer,
        "prompt": question.prompt,
        **images,
    }


def _lettered(stem: str, right: str, wrong: list[str], rng: random.Random, pictures: Pictures) -> Drawn:
    options = [right, *wrong]
    rng.shuffle(options)
    return stem, ask.lettered(stem, tuple(options), options.index(right)), pictures


def _which(stem: str, first: Image.Image, right: Image.Image, wrong: Image.Image, rng: random.Random) -> Drawn:
    """The second image or the third?"""
    place = rng.randrange(2)
    question = ask.lettered(stem, ("the second image", "the third image"), place)
    return stem, question, [first, *((right, wrong) if place == 0 else (wrong, right))]


def _apart(scene: Scene) -> list[tuple[SceneObject, SceneObject]]:
    """Pairs of kinds that stand there once, in different rows and different columns."""
    single = [item for item in scene.items if scene.count(item.kind.colour, item.kind.shape) == 1]
    return [(a, b) for a in single for b in single if a.row != b.row and a.column != b.column]


def _cut(scene: Scene) -> frozenset[tuple[int, object]]:
    """What the edge of the lower right quarter goes through: the cells beside and below the centre, and the centre."""
    edge = {(CENTRE, CENTRE), (CENTRE, GRID - 1), (GRID - 1, CENTRE)}
    return frozenset((item.cell, item.kind) for item in scene.items if (item.row, item.column) in edge)


def _redrawn(item: SceneObject, rng: random.Random) -> SceneObject:
    shift = (rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06))
    return replace(item, scale=rng.uniform(0.68, 0.92), shift=shift, shade=rng.uniform(0.85, 1.1))
