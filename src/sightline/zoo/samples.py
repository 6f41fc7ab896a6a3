"""Samples of the small world for the command line's `--data shapes`: no file needed, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from sightline.zoo import questions
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import NEGATIVES, Scene, draw_scenes, negatives

SAMPLE_SEED = 500_000
"""Added to the caller's seed, so that samples are never scenes a bundled model was trained on."""


def _existence(scene: Scene, rng: random.Random) -> Question:
    if rng.random() < 0.5:
        return questions.existence(scene, rng.choice(scene.kinds))
    how = rng.choice(NEGATIVES)
    return questions.existence(scene, negatives(scene, 1, how, rng)[0], split=how)


def _count(scene: Scene, rng: random.Random) -> Question:
    kind = rng.choice(scene.items).kind
    return (
        questions.count(scene, colour=kind.colour) if rng.random() < 0.5 else questions.count(scene, shape=kind.shape)
    )


def _choice(scene: Scene, rng: random.Random) -> Question:
    return questions.choice(scene, rng.randint(2, 10), rng)


def _caption(scene: Scene, rng: random.Random) -> Question:
    return questions.caption(scene)


MAKERS: dict[str, Callable[[Scene, random.Random], Question]] = {
    "existence": _existence,
    "count": _count,
    "choice": _choice,
    "caption": _caption,
}


def shapes_questions(count: int, seed: int = 0, kind: str = "mix") -> Iterator[tuple[Scene, Question]]:
    """`count` scenes, one question each; kind: "existence", "count", "choice", "caption", or "mix", each in turn."""
    if kind != "mix" and kind not in MAKERS:
        raise ValueError(f"unknown kind of question {kind!r}: one of mix, {', '.join(MAKERS)}")
    names = list(MAKERS) if kind == "mix" else [kind]
    for index, scene in enumerate(draw_scenes(count, SAMPLE_SEED + seed)):
        rng = random.Random(f"question/{seed}/{index}")
        yield scene, MAKERS[names[index % len(names)]](scene, rng)


def shapes_samples(count: int, seed: int = 0, kind: str = "mix", size: int = 48) -> Iterator[dict[str, Any]]:
    """Ready samples {"id", "image", "prompt", "answer", "task"}; `image` is RGB, size x size pixels."""
    for index, (scene, question) in enumerate(shapes_questions(count, seed, kind)):
        yield {
            "id": f"shapes-{seed}-{index}",
            "image": render(scene, size),
            "prompt": question.prompt,
            "answer": question.answer,
            "task": question.task,
        }
