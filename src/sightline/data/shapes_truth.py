"""What is known of the drawn scenes of the bundled world."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from sightline.data.lexicon import shapes_lexicon
from sightline.data.swaps import CoOccurrence, Truth
from sightline.data.training_sample import TrainingSample
from sightline.zoo.world import Scene, draw_scene, world_table


def drawn_truth(sample: TrainingSample) -> tuple[Truth, CoOccurrence] | None:
    """All that a picture of the bundled world holds; None for any other picture."""
    number = getattr(sample.images[0], "scene", None)
    return None if number is None else scene_truth(draw_scene(number))


def scene_truth(scene: Scene) -> tuple[Truth, CoOccurrence]:
    """All that a scene holds, and how often the kinds of the bundled world stand together."""
    objects = Counter(item.kind.name for item in scene.items)
    return Truth(shapes_lexicon(), objects, is_complete=True), _shapes_company()


@lru_cache(maxsize=1)
def _shapes_company() -> CoOccurrence:
    table = world_table()
    together: dict[str, Counter[str]] = {}
    for (one, other), count in table.together.items():
        together.setdefault(one.name, Counter())[other.name] = count
    return CoOccurrence(together)
