"""A picture and the same picture with one thing changed, so that a question has opposite answers about the two."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from sightline.zoo.world import COLOURS, Kind, Scene, SceneObject, negatives


@dataclass(frozen=True)
class EditedPair:
    """Two scenes that differ in one item: `gone` stands in the first alone, `new` in the second alone."""

    first: Scene
    second: Scene
    gone: Kind
    new: Kind


def lone(scene: Scene) -> tuple[SceneObject, ...]:
    """The items whose kind stands in the picture once."""
    kinds = [item.kind for item in scene.items]
    return tuple(item for item in scene.items if kinds.count(item.kind) == 1)


def replaced(scene: Scene, rng: random.Random) -> EditedPair:
    """One item of a kind that is there once becomes another that is not there, in the same place."""
    return _with(scene, rng.choice(lone(scene)), negatives(scene, 1, "random", rng)[0])


def recoloured(scene: Scene, shape: str, rng: random.Random) -> EditedPair:
    """The only item of this shape gets another colour."""
    item = next(item for item in scene.items if item.kind.shape == shape)
    return _with(scene, item, Kind(rng.choice([each for each in COLOURS if each != item.kind.colour]), shape))


def _with(scene: Scene, item: SceneObject, kind: Kind) -> EditedPair:
    items = tuple(replace(each, kind=kind) if each == item else each for each in scene.items)
    return EditedPair(scene, replace(scene, items=items), item.kind, kind)
