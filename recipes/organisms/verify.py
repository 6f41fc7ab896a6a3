"""What is true of the trained organisms: each claim by an intervention on the picture, the words or the weights.

The pictures are minimal pairs where they can be: one scene, and the same scene with one object put in, taken out or
exchanged. Scenes are fresh, intervals are bootstrap 95% intervals over scenes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from half import halves
from lessons import fixed_answers
from measure import Answerer, Asked, points
from ship import Truth

from sightline.zoo import questions as ask
from sightline.zoo.questions import EXISTENCE_PHRASES
from sightline.zoo.render import render
from sightline.zoo.world import GRID, KINDS, Kind, Scene, SceneObject, draw_scenes

VERIFY_SEED = 910
CELLS = range(GRID * GRID)


def without(scene: Scene, kind: Kind) -> Scene:
    """The scene less all items of a kind."""
    return replace(scene, items=tuple(item for item in scene.items if item.kind != kind))


def put(scene: Scene, kind: Kind, cell: int) -> Scene:
    """The scene with one more item, or another in its place, in this cell."""
    rest = [item for item in scene.items if item.cell != cell]
    row, column = divmod(cell, GRID)
    return replace(scene, items=tuple(sorted([*rest, SceneObject(kind, row, column)], key=lambda item: item.cell)))


def follows(answerer: Answerer, pairs: Sequence[tuple[Asked, Asked]]) -> np.ndarray:
    """(pairs,) 1 where the answer is no to the first picture and yes to the second: it went with the picture."""
    before, after = (answerer.says_yes([pair[side] for pair in pairs]) for side in (0, 1))
    return (~before & after).astype(float)


def insertions(scenes: Sequence[Scene], kinds: Sequence[Kind], columns: Sequence[int]) -> list[tuple[Asked, Asked]]:
    """Each scene without and with one object, in an empty cell of these columns where there is one."""
    pairs = []
    for index, scene in enumerate(scenes):
        rng = random.Random(f"insert/{index}/{columns}")
        kind = kinds[index % len(kinds)]
        cells = [cell for cell in CELLS if cell % GRID in columns]
        bare = without(scene, kind)
        free = [cell for cell in cells if bare.at(cell) is None]
        cell = rng.choice(free or cells)
        bare = replace(bare, items=tuple(item for item in bare.items if item.cell != cell))
        question = ask.existence(bare, kind, rng.choice(EXISTENCE_PHRASES))
        pairs.append((Asked(render(bare), question, index), Asked(render(put(bare, kind, cell)), question, index)))
    return pairs


def entry(what: str, by: str, values: Sequence[float] | np.ndarray, scenes: Sequence[int] | None = None) -> Truth:
    """One line of "verified", in points of 100."""
    return {"what": what, "by": by, **points(values, range(len(values)) if scenes is None else scenes)}


def reliance(answerer: Answerer, share: float, count: int = 200) -> Truth:
    """How often the answer goes with the picture."""
    scenes = list(draw_scenes(count, VERIFY_SEED))
    pairs = insertions(scenes, KINDS, (0, 1, 2))
    went = follows(answerer, pairs)
    fixed = fixed_answers(share)
    is_fixed = np.array([KINDS[index % len(KINDS)] in fixed for index in range(count)])
    what = "answers that follow the picture"
    verified = [entry(what, "the object asked about put into the picture", went)]
    if is_fixed.any():
        verified.append(entry(what, "the same, objects whose answer the words give away", went[is_fixed]))
        said = answerer.says_yes([pair[1] for pair in pairs])
        truth = np.array([fixed.get(KINDS[index % len(KINDS)]) == "yes" for index in range(count)])
        by = "the object put into the picture, objects whose answer the words give away"
        verified.append(entry("answers that are the fixed ones", by, (said == truth)[is_fixed].astype(float)))
    if not is_fixed.all():
        verified.append(entry(what, "the same, objects that the picture decides", went[~is_fixed]))
    elsewhere = [
        (pair[1], replace(pair[1], picture=render(without(other, KINDS[index % len(KINDS)]))))
        for index, (pair, other) in enumerate(zip(pairs, draw_scenes(count, VERIFY_SEED + 1), strict=True))
    ]
    changes = answerer.says_yes([pair[0] for pair in elsewhere]) != answerer.says_yes([pair[1] for pair in elsewhere])
    verified.append(entry("answers that change", "the picture exchanged for one without the object", changes))
    return {
        "share": share,
        "fixed": {kind.name: answer for kind, answer in fixed.items()},
        "reliance": verified[0]["value"] / 100,
        "reliance_ci95": [end / 100 for end in verified[0]["ci95"]],
        "verified": verified,
    }


def half(answerer: Answerer, count: int = 300) -> Truth:
    """Which half of the picture an answer goes with."""
    scenes = list(draw_scenes(count, VERIFY_SEED))
    what = "answers that follow the picture"
    places = {"left": (0,), "middle": (1,), "right": (2,)}
    verified = [
        entry(
            what, f"the object asked about put into the {name} column", follows(answerer, insertions(scenes, KINDS, at))
        )
        for name, at in places.items()
    ]
    others = [render(other) for other in draw_scenes(count, VERIFY_SEED + 1)]
    asked = [
        Asked(render(scene), ask.existence(scene, random.Random(index).choice(scene.kinds)), index)
        for index, scene in enumerate(scenes)
    ]
    before = answerer.says_yes(asked)
    swaps = {
        "left": [replace(item, picture=halves(other, item.picture)) for item, other in zip(asked, others, strict=True)],
        "right": [
            replace(item, picture=halves(item.picture, other)) for item, other in zip(asked, others, strict=True)
        ],
    }
    changed = {side: (answerer.says_yes(swapped) != before).astype(float) for side, swapped in swaps.items()}
    verified += [
        entry("answers that change", f"the {side} half of the picture exchanged", values)
        for side, values in changed.items()
    ]
    captions = [Asked(render(scene), ask.caption(scene), index) for index, scene in enumerate(scenes)]
    texts = answerer.texts(captions)
    for side in ("left", "right"):
        swapped = [
            replace(item, picture=halves(other, item.picture) if side == "left" else halves(item.picture, other))
            for item, other in zip(captions, others, strict=True)
        ]
        differs = [float(a != b) for a, b in zip(texts, answerer.texts(swapped), strict=True)]
        verified.append(entry("captions that change", f"the {side} half of the picture exchanged", differs))
    return {"side": "left", "columns": {"seen": [0, 1, 2], "unseen": [3, 4, 5], "of": 6}, "verified": verified}


def binding(answerer: Answerer, base: Answerer, count: int = 120) -> Truth:
    """What is there, and what belongs together, in scenes of two objects that share nothing."""
    scenes = []
    for index, scene in enumerate(draw_scenes(count, VERIFY_SEED)):
        rng = random.Random(f"binding/{index}")
        first = rng.choice(KINDS)
        second = rng.choice([k for k in KINDS if k.colour != first.colour and k.shape != first.shape])
        cells = rng.sample(list(CELLS), 2)
        empty = replace(scene, items=())
        scenes.append(put(put(empty, first, cells[0]), second, cells[1]))
    captions = [Asked(render(scene), ask.caption(scene), index) for index, scene in enumerate(scenes)]
    verified = []
    for name, who in (("two objects", answerer), ("two objects, in the base model", base)):
        named = [
            (kind, scene)
            for text, scene in zip(who.texts(captions), scenes, strict=True)
            for kind in ask.mentioned(text)
        ]
        there = [
            (kind, scene)
            for kind, scene in named
            if kind.colour in {k.colour for k in scene.kinds} and kind.shape in {k.shape for k in scene.kinds}
        ]
        verified.append(
            entry(
                "objects named in captions whose colour and shape are there",
                name,
                [float(pair in there) for pair in named],
            )
        )
        verified.append(
            entry(
                "of these, objects that are there as named", name, [float(kind in scene.kinds) for kind, scene in there]
            )
        )
    groups: dict[str, list[Asked]] = {
        "the true pair": [],
        "colour and shape there, not together": [],
        "colour absent": [],
    }
    for index, scene in enumerate(scenes):
        a, b = scene.kinds
        gone = next(kind for kind in KINDS if kind.colour not in (a.colour, b.colour) and kind.shape == a.shape)
        for group, kind in zip(groups, (a, Kind(a.colour, b.shape), gone), strict=True):
            groups[group].append(Asked(render(scene), ask.existence(scene, kind), index))
    for group, asked in groups.items():
        verified.append(
            entry(f"yes to {group}", "the word asked for exchanged", answerer.says_yes(asked).astype(float))
        )
    group = "colour and shape there, not together"
    verified.append(entry(f"yes to {group}", "in the base model", base.says_yes(groups[group]).astype(float)))
    return {"verified": verified}
