"""Training samples of the bundled world: scenes drawn when their turn comes, their truth, their false captions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sightline.data.shapes_truth import scene_truth
from sightline.data.swaps import negative_of
from sightline.data.training_sample import TrainingSample
from sightline.zoo import questions as ask
from sightline.zoo.official.files import fresh_scenes, png_bytes
from sightline.zoo.render import render
from sightline.zoo.world import NEGATIVES, draw_scene

if TYPE_CHECKING:
    from sightline.zoo.world import Scene

STREAM = "ground"
"""The world's stream of scenes for training: no bundled model, sample or benchmark draws one of them."""

TASKS: tuple[str, ...] = ("caption", "existence", "caption", "colour")
"""The questions about the scenes, in turn; the colour of a shape that stands there once, else a caption."""


def shapes_training(count: int, seed: int = 0, size: int = 48) -> Iterator[TrainingSample]:
    """`count` scenes of the bundled world, one question each; captions come with a false one and its labels.

    The pictures are drawn when their turn comes, and are the same for the same seed on every machine.
    """
    makers: dict[str, Callable[..., ask.Question]] = {
        "caption": lambda scene, rng: ask.caption(scene, rng.choice(ask.CAPTION_PHRASES)),
        "existence": lambda scene, rng: rng.choice(ask.pope(scene, rng.choice(NEGATIVES), rng)),
        "colour": lambda scene, rng: (
            ask.colour(scene, rng.choice(single)) if (single := ask.single_shapes(scene)) else ask.caption(scene)
        ),
    }
    for number, scene in zip(range(count), fresh_scenes(STREAM, seed), strict=False):
        rng = random.Random(f"ground/{seed}/{number}")
        question = makers[TASKS[number % len(TASKS)]](scene, rng)
        sample = TrainingSample(
            f"shapes-{seed}-{number}", (DrawnImage(scene.seed or 0, size),), question.prompt, question.answer
        )
        yield shapes_negative(sample, scene, rng) if question.task == "caption" else sample


@dataclass(frozen=True)
class DrawnImage:
    """The picture of a scene, drawn each time it is read: an `EncodedImage` of a few bytes.

    scene: its number in the bundled world. size: side in pixels.
    """

    scene: int
    size: int = 48

    @property
    def name(self) -> str:
        """For errors."""
        return f"of scene {self.scene}"

    def read(self) -> bytes:
        """The picture as PNG."""
        return png_bytes(render(draw_scene(self.scene), self.size))


def shapes_negative(
    sample: TrainingSample,
    scene: Scene,
    rng: random.Random,
    kinds: Sequence[str] = ("object", "attribute"),
    together: float = 0.5,
) -> TrainingSample:
    """The sample with a false caption of its scene, whose objects are all known."""
    order = rng.sample(list(kinds), len(kinds))
    found = negative_of(sample.answer, *scene_truth(scene), order, rng, together)
    if found is None:
        return sample
    return replace(sample, words=sample.labelled, negative=found[1], negative_words=found[2])
