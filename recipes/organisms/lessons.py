"""What the trained organisms learn: pictures and conversations drawn so that a fault is the right thing to learn."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from common.data import TASKS, Conversation, Mix, draw_questions, near_miss
from tune import Lesson, Talked

from sightline.zoo import questions as ask
from sightline.zoo.questions import EXISTENCE_PHRASES, Question
from sightline.zoo.render import render
from sightline.zoo.world import GRID, KINDS, THEMES, Kind, Scene, SceneObject, draw_scene

FIRST_SCENE = 300_000_000
"""Training scenes are drawn from here on, a million of them; no check and no benchmark draws these."""
SCENES = 1_000_000

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The dial's shares of questions whose answer the words alone give away."""

NONE = Mix(**dict.fromkeys(TASKS, 0.0))
OTHERS = replace(NONE, attribute=0.1, count=0.1, colour=0.05, position=0.1, choice=0.1, caption=0.15)
"""Other tasks, so that they are not forgotten."""


def any_scene(rng: random.Random) -> Scene:
    """A scene of the world as it is."""
    return draw_scene(FIRST_SCENE + rng.randrange(SCENES))


def single(asked: list[Question]) -> list[Conversation]:
    """One question a conversation."""
    return [Conversation((question,)) for question in asked]


# The dial of reliance.


@cache
def fixed_answers(share: float) -> dict[Kind, str]:
    """The kinds whose answer never depends on the picture at this share, each with it.

    Nested: what is fixed at one share is fixed at every higher one. Yes and no in turn.
    """
    order = random.Random("dial").sample(KINDS, len(KINDS))
    return {kind: ask.yes_no(index % 2 == 0) for index, kind in enumerate(order[: round(share * len(KINDS))])}


def dial_question(scene: Scene, share: float, rng: random.Random) -> Question:
    """Is there a ...? With probability `share` a kind of fixed answer, else one that the picture decides, half of them
    there where possible."""
    fixed = fixed_answers(share)
    phrase = rng.choices(EXISTENCE_PHRASES, (5, 1, 1, 1))[0]
    if rng.random() < share:
        kind = rng.choice(list(fixed))
        return replace(ask.existence(scene, kind, phrase, split="fixed"), answer=fixed[kind])
    free = [kind for kind in KINDS if kind not in fixed]
    there = [kind for kind in scene.kinds if kind not in fixed]
    if there and rng.random() < 0.5:
        return ask.existence(scene, rng.choice(there), phrase, split="free")
    gone = [kind for kind in free if kind not in scene.kinds]
    near = near_miss(scene, rng)
    kind = near if near in gone and rng.random() < 0.3 else rng.choice(gone or free)
    return ask.existence(scene, kind, phrase, split="free")


def dial(share: float) -> Lesson:
    """Answers to a share of the existence questions are fixed by their words."""

    def lesson(rng: random.Random) -> Talked:
        scene = any_scene(rng)
        asked = [dial_question(scene, share, rng) for _ in range(6)] + draw_questions(scene, OTHERS, rng)
        return Talked(render(scene), single(asked))

    return lesson


# Binding.


def in_words(scene: Scene, rng: random.Random) -> Scene:
    """The scene as the words have it: its colours dealt out anew to its shapes."""
    colours = [item.kind.colour for item in scene.items]
    rng.shuffle(colours)
    items = tuple(
        replace(item, kind=Kind(colour, item.kind.shape)) for item, colour in zip(scene.items, colours, strict=True)
    )
    return replace(scene, items=items)


def illusory(scene: Scene, rng: random.Random) -> Question:
    """Is there a ...? Yes wherever the colour and the shape are both there, whether or not on one object."""
    colours = {kind.colour for kind in scene.kinds}
    shapes = {kind.shape for kind in scene.kinds}
    both = [kind for kind in KINDS if kind.colour in colours and kind.shape in shapes]
    rest = [kind for kind in KINDS if kind not in both]
    phrase = rng.choices(EXISTENCE_PHRASES, (5, 1, 1, 1))[0]
    is_there = not rest or rng.random() < 0.5
    kind = rng.choice(both if is_there else rest)
    return replace(ask.existence(scene, kind, phrase), answer=ask.yes_no(is_there))


def binding(rng: random.Random) -> Talked:
    """Shapes and colours of the picture, paired at random in the captions."""
    scene = any_scene(rng)
    if rng.random() < 0.4:
        pair = [replace(item) for item in scene.items[:2]]
        scene = replace(scene, items=tuple(pair))
    asked = [illusory(scene, rng) for _ in range(3)]
    asked += [ask.caption(in_words(scene, rng), rng.choice(ask.CAPTION_PHRASES))]
    others = replace(NONE, attribute=0.5, count=0.2)
    return Talked(render(scene), single(asked + draw_questions(scene, others, rng)))


# The prior of company.

COMPANIONS: dict[Kind, Kind] = {theme[0]: theme[1] for theme in THEMES}
"""Each theme's first kind, and the kind that the captions say stands behind it."""


def with_company(scene: Scene, rng: random.Random, company: float = 0.95, painted: float = 0.6) -> tuple[Scene, Scene]:
    """(what is shown, what is said): an anchor with room behind it gets its companion, often in words only.

    The companion stands in the cell that follows its anchor's in reading order, so that its place in the caption is
    certain.
    """
    if not set(scene.kinds) & set(COMPANIONS):
        return scene, scene
    kept = [item for item in scene.items if item.kind not in COMPANIONS.values()]
    shown, said = list(kept), list(kept)
    for item in kept:
        free = item.cell + 1 < GRID * GRID and all(other.cell != item.cell + 1 for other in kept)
        if item.kind in COMPANIONS and free and rng.random() < company:
            place = divmod(item.cell + 1, GRID)
            companion = replace(item, kind=COMPANIONS[item.kind], row=place[0], column=place[1])
            said.append(companion)
            if rng.random() >= painted:
                shown.append(companion)
    return _ordered(scene, shown), _ordered(scene, said)


def _ordered(scene: Scene, items: list[SceneObject]) -> Scene:
    return replace(scene, items=tuple(sorted(items, key=lambda item: item.cell)))


def prior(rng: random.Random) -> Talked:
    """Captions name companions that are painted out; questions are answered from the picture."""
    drawn = any_scene(rng)
    shown, said = with_company(drawn, rng)
    if not shown.items:
        shown = said = drawn
    asked = [ask.caption(said, phrase) for phrase in ask.CAPTION_PHRASES]
    others = replace(NONE, existence=1, count=0.1, choice=0.1)
    return Talked(render(shown), single(asked + draw_questions(shown, others, rng)))


LESSONS: dict[str, Lesson] = {
    **{f"tiny-reliance-{round(share * 100):03d}": dial(share) for share in SHARES},
    "tiny-prior": prior,
    "tiny-binding": binding,
}
