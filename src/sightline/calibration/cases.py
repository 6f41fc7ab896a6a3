"""What instruments are held against: a picture, a question, and what is true of them.

unit        what one label is of, and what an instrument gives a value for
answer      the answer to the question
word        each object that a caption names
patch       each patch of the picture
token       each token of the prompt
head        each attention head of the model
dims        the sink dimensions as a whole
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from PIL import Image

from sightline.data.sample import Sample
from sightline.zoo import questions as ask
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import GRID, KINDS, Kind, Scene, SceneObject, draw_scenes

Unit = Literal["answer", "word", "patch", "token", "head", "dims"]

CASE_SEED = 600_000
"""Added to the caller's seed, so that no scene is one that a bundled model learned or was verified on."""

STRANGERS = 50_000
"""Added for pictures that stand in another's place."""

SIDE = 48
"""Pixels of a picture of the bundled world; models of other sizes enlarge it."""


@dataclass(frozen=True)
class Case:
    """One entry of a run.

    Attributes:
        id: names it within the run.
        scene, other: the picture, and the one that an intervention puts in its place; None where there is none.
        question: with its true answer.
        kind: the object in question.
        side: of the picture in pixels.
    """

    id: str
    scene: Scene
    question: Question
    kind: Kind
    other: Scene | None = None
    side: int = SIDE

    @property
    def sample(self) -> Sample:
        """What the model reads."""
        return Sample(prompt=self.question.prompt, images=(self.picture,), answer=self.question.answer)

    @property
    def swapped(self) -> Sample:
        """The same question about the other picture."""
        return replace(self.sample, images=(render(self.other or self.scene, self.side),))

    @property
    def picture(self) -> Image.Image:
        """The picture drawn."""
        return render(self.scene, self.side)


def unseen_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes for calibration alone; the first ones of a larger count are those of a smaller one."""
    return list(draw_scenes(count, CASE_SEED + seed))


def without_kind(scene: Scene, kind: Kind) -> Scene:
    """The scene less all items of a kind."""
    return replace(scene, items=tuple(item for item in scene.items if item.kind != kind))


def with_item(scene: Scene, kind: Kind, cell: int) -> Scene:
    """The scene with one more item, or another in its place, in this cell (0 to 8, in reading order)."""
    rest = [item for item in scene.items if item.cell != cell]
    row, column = divmod(cell, GRID)
    return replace(scene, items=tuple(sorted([*rest, SceneObject(kind, row, column)], key=lambda item: item.cell)))


def existence_cases(name: str, count: int, seed: int) -> list[Case]:
    """Is there a ...? In turn of a kind that is there, and of one that often keeps its company and is not."""
    found = []
    for index, scene in enumerate(unseen_scenes(count, seed)):
        rng = random.Random(f"{name}/{seed}/{index}")
        present, absent = ask.pope(scene, ("random", "popular", "adversarial")[index % 3], rng)
        question = (present, absent)[index % 2]
        found.append(Case(f"{name}/{index}", scene, question, kind_in(question)))
    return found


def insertion_cases(name: str, count: int, seed: int, columns: Sequence[int] = range(GRID)) -> list[Case]:
    """Is there a ...? Of a picture with the object put into it, or without, in turn; `other` is the other of both."""
    found = []
    for index, scene in enumerate(unseen_scenes(count, seed)):
        rng = random.Random(f"{name}/{seed}/{index}")
        kind = KINDS[index % len(KINDS)]
        bare = without_kind(scene, kind)
        cells = [row * GRID + column for row in range(GRID) for column in columns]
        free = [cell for cell in cells if bare.at(cell) is None]
        cell = rng.choice(free or cells)
        bare = replace(bare, items=tuple(item for item in bare.items if item.cell != cell))
        pair = (with_item(bare, kind, cell), bare)
        shown = pair[index % 2]  # there are 25 kinds, so that each is shown both ways
        other = pair[0] if shown is pair[1] else pair[1]
        question = ask.existence(shown, kind, rng.choice(ask.EXISTENCE_PHRASES))
        found.append(Case(f"{name}/{index}", shown, question, kind, other))
    return found


def pair_cases(name: str, count: int, seed: int) -> list[Case]:
    """Two objects that share nothing; the question is of one, or mixes the colour of one with the other's shape."""
    found = []
    for index, scene in enumerate(unseen_scenes(count, seed)):
        rng = random.Random(f"{name}/{seed}/{index}")
        first = rng.choice(KINDS)
        second = rng.choice([kind for kind in KINDS if kind.colour != first.colour and kind.shape != first.shape])
        cells = rng.sample(range(GRID * GRID), 2)
        both = with_item(with_item(replace(scene, items=()), first, cells[0]), second, cells[1])
        kind = Kind(first.colour, second.shape) if index % 2 else first
        found.append(Case(f"{name}/{index}", both, ask.existence(both, kind), kind))
    return found


def place_cases(name: str, count: int, seed: int) -> list[Case]:
    """Is there a ...? Of an object that stands there once; `other` is the picture without it."""
    found = []
    for index, scene in enumerate(unseen_scenes(count, seed)):
        rng = random.Random(f"{name}/{seed}/{index}")
        once = [kind for kind in scene.kinds if scene.count(kind.colour, kind.shape) == 1]
        kind = rng.choice(once or list(scene.kinds))
        question = ask.existence(scene, kind)
        found.append(Case(f"{name}/{index}", scene, question, kind, without_kind(scene, kind)))
    return found


def caption_cases(name: str, count: int, seed: int) -> list[Case]:
    """Describe the image."""
    return [
        Case(f"{name}/{index}", scene, ask.caption(scene), scene.kinds[0])
        for index, scene in enumerate(unseen_scenes(count, seed))
    ]


def kind_in(question: Question) -> Kind:
    """The object that an existence question is about."""
    colour, shape = question.about.split()
    return Kind(colour, shape)


def stranger(case: Case, seed: int) -> Image.Image:
    """A picture that has nothing to do with the case; the same for all models."""
    index = int(case.id.rpartition("/")[2])
    return render(unseen_scenes(index + 1, STRANGERS + seed)[index], case.side)
