"""AMBER's files: of each picture a description, and yes-no questions on existence, state, number and relation.

    data/annotations.json, data/query/query_all.json, data/relation.json, data/safe_words.txt
    image/AMBER_1.png, ...

Objects are the world's five shapes. As officially, what existence asks for is never there; the other questions are true
and false in turn. hallu: the absent shape of the kind that most often keeps company with what is there. Actions mean
nothing in this world and are left out.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sightline.zoo import questions as ask
from sightline.zoo.official.edited import lone
from sightline.zoo.official.files import Tick, fresh_scenes, png_bytes, write_json
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, SHAPES, Scene, negatives

OF_EACH = 5
"""Queries about a picture."""

WORDS = {shape: [ask.PLURALS[shape]] for shape in SHAPES}


def write(folder: Path, count: int, seed: int, size: int, tick: Tick) -> None:
    """At least `count` queries, five a picture."""
    queries: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    (folder / "image").mkdir()
    scenes = fresh_scenes("amber", seed, _fits)
    for number in range(1, -(-count // OF_EACH) + 1):
        scene, image = next(scenes), f"AMBER_{number}.png"
        (folder / "image" / image).write_bytes(png_bytes(render(scene, size)))
        rng = random.Random(f"amber/{seed}/{number}")
        queries.append({"id": len(queries) + 1, "image": image, "query": ask.CAPTION_PHRASES[0]})
        shapes = sorted({item.kind.shape for item in scene.items})
        absent = [kind.shape for kind in negatives(scene, 9, "adversarial", rng) if kind.shape not in shapes]
        truths.append({"id": len(queries), "type": "generative", "truth": shapes, "hallu": absent[:1]})
        for kind, question in _questions(scene, number % 2 == 0, rng).items():
            queries.append({"id": len(queries) + 1, "image": image, "query": question.prompt})
            truths.append({"id": len(queries), "type": kind, "truth": question.answer, "hallu": []})
        tick(OF_EACH)
    write_json(folder / "data" / "query" / "query_all.json", queries)
    write_json(folder / "data" / "annotations.json", truths)
    write_json(folder / "data" / "relation.json", WORDS)
    (folder / "data" / "safe_words.txt").write_text("image", encoding="utf-8")


def _fits(scene: Scene) -> bool:
    return bool(ask.single_shapes(scene)) and len(lone(scene)) > 1


def _questions(scene: Scene, is_true: bool, rng: random.Random) -> dict[str, Question]:
    shape = rng.choice(ask.single_shapes(scene))
    colour = ask.colour(scene, shape).answer
    wrong = rng.choice([each for each in COLOURS if each != colour])
    number = scene.count(shape=shape)
    other = rng.choice([each for each in (2, 3) if each != number])
    first, second = rng.sample(lone(scene), 2)
    sides = [side for side in ask.SIDES if (ask.relation(first, side, second).answer == "yes") == is_true]
    return {
        "discriminative-hallucination": ask.existence(scene, negatives(scene, 1, "random", rng)[0]),
        "discriminative-attribute-state": ask.verify_colour(scene, shape, colour if is_true else wrong),
        "discriminative-attribute-number": ask.verify_count(scene, shape, number if is_true else other),
        "discriminative-relation": ask.relation(first, rng.choice(sides), second),
    }
