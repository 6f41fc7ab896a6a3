"""What the demo asks beyond the benchmarks: about an object that stands in a scene once, and captions made false."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sightline.data.sample import Sample
from sightline.data.shapes_training import DrawnImage
from sightline.data.training_sample import TrainingSample
from sightline.probes.grounding import Grounding
from sightline.zoo.official.files import fresh_scenes
from sightline.zoo.questions import caption
from sightline.zoo.render import render
from sightline.zoo.world import negatives

if TYPE_CHECKING:
    from PIL import Image

    from sightline.models.vlm import VLM
    from sightline.probes.grounding.values import TokenScore

CAPTIONS = 60
"""Scenes whose captions are made false."""

SIZE = 48
"""Side of a picture in pixels, as the bundled models see it."""


@dataclass(frozen=True)
class SceneQuestion:
    """A scene and the question about an object that stands there once.

    kind: its name, "red circle". row, column: its cell of the world's three by three.
    """

    picture: Image.Image
    kind: str
    row: int
    column: int

    @property
    def prompt(self) -> str:
        """The words, as the bundled models were trained on them."""
        return f"Is there a {self.kind} in the image?"

    def holds(self, box: Any) -> bool:
        """Whether the middle of a part of the picture, (left, top, right, bottom) as shares, lies in the cell."""
        if box is None:
            return False
        left, top, right, bottom = box
        return (int(3 * (top + bottom) / 2), int(3 * (left + right) / 2)) == (self.row, self.column)


def find_question(seed: int) -> SceneQuestion:
    """A fresh scene of four objects, one of which has no second of its kind, colour or shape."""
    scenes = fresh_scenes("demo/question", seed, lambda scene: len(scene.items) == 4)
    return next(
        SceneQuestion(render(scene, SIZE), item.kind.name, item.row, item.column)
        for scene in scenes
        for item in scene.items
        if scene.count(colour=item.kind.colour) == 1 and scene.count(shape=item.kind.shape) == 1
    )


def score_caption(vlm: VLM, question: SceneQuestion) -> list[TokenScore]:
    """The model's own caption of the scene, each token with how close it is to the image."""
    inputs = vlm.encode(Sample(prompt="Describe the image.", images=(question.picture,)))
    with Grounding().on(vlm) as probe:
        vlm.generate(inputs, max_new_tokens=48)
    return list(probe.result()[0])


def false_captions(count: int, seed: int) -> list[TrainingSample]:
    """Scenes with their true caption and one in which an object is exchanged for an absent one; that alone is labelled.

    As many of each, at the same places, after the same words.
    """
    return list(islice(_captions(seed), 2 * count))


def _captions(seed: int) -> Iterator[TrainingSample]:
    for place, scene in enumerate(fresh_scenes("demo/captions", seed)):
        rng = random.Random(f"demo/{seed}/{place}")
        there, absent = rng.choice(scene.kinds).name, negatives(scene, 1, "random", rng)[0].name
        wanted = caption(scene)
        start = wanted.answer.index(there)
        for name, label in ((there, 1), (absent, 0)):
            text = wanted.answer[:start] + name + wanted.answer[start + len(there) :]
            picture = DrawnImage(scene.seed or 0, SIZE)
            words = ((start, start + len(name), label),)
            yield TrainingSample(f"{place}-{label}", (picture,), wanted.prompt, text, words)
