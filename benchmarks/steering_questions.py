"""What the models whose fault is known are asked: where it shows, and where it should not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from sightline.calibration.cases import CASE_SEED, Case, insertion_cases, pair_cases, unseen_scenes
from sightline.zoo import questions as ask
from sightline.zoo.organisms import truth_of
from sightline.zoo.render import render
from sightline.zoo.world import COLOURS, GRID, NEGATIVES, SHAPES, Kind, Scene

SEED = 700_003 - CASE_SEED
"""The scenes of the steering table: drawn in no training, no verification and no calibration."""


@dataclass(frozen=True)
class Asked:
    """One question. truth: yes or no, or a caption. kinds: of a caption, what is there."""

    prompt: str
    picture: Image.Image
    truth: str
    kinds: frozenset[Kind] = frozenset()


@dataclass(frozen=True)
class Fault:
    """said: of the table, what is asked. draw: the parts, by the model's name and how many scenes.

    is_whole: both questions of every scene are asked, and one elsewhere; else one of both, and elsewhere a third.
    """

    said: str
    draw: Callable[[str, int], dict[str, list[Asked]]]
    is_whole: bool = False


def questions_of(model: str, count: int) -> dict[str, list[Asked]]:
    """By part: "fault", the first question of every scene and then the second; "sound"; "captions" of some."""
    fault = FAULTS[model]
    parts = fault.draw(model, count)
    if not fault.is_whole:
        halves = parts["fault"][:count], parts["fault"][count:]
        parts["fault"] = [halves[index // 2 % 2][index] for index in range(count)]
        parts |= {"sound": parts["sound"][::3]} if "sound" in parts else {}
    return parts


def _asked(scene: Scene, question: ask.Question, side: int = 48) -> Asked:
    kinds = frozenset(scene.kinds) if question.task == "caption" else frozenset()
    return Asked(question.prompt, render(scene, side), question.answer, kinds)


def _both(cases: list[Case]) -> list[Asked]:
    """Each question about its own picture, then about the other one, where the opposite is true."""
    other = {"yes": "no", "no": "yes"}
    own = [Asked(case.question.prompt, case.picture, case.question.answer) for case in cases]
    swapped = [
        Asked(case.question.prompt, case.swapped.images[0], other[case.question.answer])  # type: ignore[arg-type]
        for case in cases
    ]
    return own + swapped


def _own(cases: list[Case]) -> list[Asked]:
    return [Asked(case.question.prompt, case.picture, case.question.answer) for case in cases]


def _existence(_: str, count: int) -> dict[str, list[Asked]]:
    """A kind that is there and one that is not, of POPE's splits in turn; elsewhere: how many of a shape are there?"""
    firsts, seconds, counts = [], [], []
    for index, scene in enumerate(unseen_scenes(count, SEED)):
        rng = random.Random(f"steering/{index}")
        present, absent = ask.pope(scene, NEGATIVES[index % len(NEGATIVES)], rng)
        firsts.append(_asked(scene, present))
        seconds.append(_asked(scene, absent))
        counts.append(_asked(scene, ask.count(scene, shape=rng.choice(scene.kinds).shape)))
    return {"fault": firsts + seconds, "sound": counts}


def _place(_: str, count: int) -> dict[str, list[Asked]]:
    """A kind that is there, at its own place and at a wrong one; elsewhere: is it there?"""
    firsts, seconds, there = [], [], []
    for index, scene in enumerate(unseen_scenes(count, SEED)):
        rng = random.Random(f"steering/{index}")
        item = rng.choice(scene.items)
        wrong = [cell for cell in range(GRID * GRID) if getattr(scene.at(cell), "kind", None) != item.kind]
        firsts.append(_asked(scene, ask.place(scene, item.kind, item.cell), 96))
        seconds.append(_asked(scene, ask.place(scene, item.kind, rng.choice(wrong)), 96))
        there.append(_asked(scene, ask.pope(scene, NEGATIVES[index // 2 % len(NEGATIVES)], rng)[index % 2], 96))
    return {"fault": firsts + seconds, "sound": there}


def _half(_: str, count: int) -> dict[str, list[Asked]]:
    """An object put into the right column, or not; elsewhere: into the left one."""
    right, left = (insertion_cases("steering", count, SEED, (column,)) for column in (GRID - 1, 0))
    return {"fault": _both(right), "sound": _own(left)}


def _reliance(model: str, count: int) -> dict[str, list[Asked]]:
    """An object put into the picture, or not: one whose answer the words give away; elsewhere: any other."""
    fixed = truth_of(model)["fixed"]
    cases = insertion_cases("steering", 3 * count, SEED)
    of_words = [case for case in cases if case.kind.name in fixed][:count]
    others = [case for case in cases if case.kind.name not in fixed][:count]
    return {"fault": _both(of_words)} | ({"sound": _own(others)} if others else {})


def _binding(_: str, count: int) -> dict[str, list[Asked]]:
    """Two objects: one as it is, and a mixture of both; elsewhere: is a colour, a shape there at all? And captions."""
    cases = pair_cases("steering", count, SEED)
    firsts, seconds, sounds, captions = [], [], [], []
    for index, case in enumerate(cases):
        rng = random.Random(f"binding/{index}")
        first, second = case.scene.kinds
        firsts.append(_asked(case.scene, ask.existence(case.scene, first)))
        seconds.append(_asked(case.scene, ask.existence(case.scene, Kind(first.colour, second.shape))))
        values = (COLOURS, SHAPES)[index // 2 % 2]
        there = [value for value in values if ask.attribute(case.scene, value).answer == "yes"]
        absent = [value for value in values if value not in there]
        sounds.append(_asked(case.scene, ask.attribute(case.scene, rng.choice(absent if index % 2 else there))))
        captions.append(_asked(case.scene, ask.caption(case.scene)))
    return {"fault": firsts + seconds, "sound": sounds, "captions": captions}


_THERE = "whether an object is there"
_PLACE = "whether an object that is there is at a place, its own or a wrong one"
_COUNT = "how many of a shape are there"
_WORDS = "Asked about an object whose answer the words give away, in a picture with it or in one without"

FAULTS: dict[str, Fault] = {
    "tiny-sinks": Fault(
        f"Asked {_THERE}, of one that is and of one that is not; elsewhere: {_COUNT}.", _existence, True
    ),
    "tiny-silent-sinks": Fault(f"No fault shows. Asked {_THERE}; elsewhere: {_COUNT}.", _existence),
    "tiny-half": Fault(
        "Asked about an object in the right column, in a picture with it or in one without; elsewhere: in the left "
        "column.",
        _half,
    ),
    "tiny-binding": Fault(
        "Two objects; asked about one as it is, or about the colour of one with the other's shape; elsewhere: whether "
        "a colour or a shape is there at all.",
        _binding,
    ),
    "tiny-reliance-050": Fault(f"{_WORDS}; elsewhere: about the others.", _reliance),
    "tiny-qwen2_5-vl": Fault(f"Asked {_PLACE}; elsewhere: {_THERE}.", _place),
    "tiny-qwen3-vl": Fault(f"Asked {_PLACE}; elsewhere: {_THERE}.", _place),
    "tiny-reliance-100": Fault(f"{_WORDS}.", _reliance),
}
"""By the name of the model, in the order in which they are measured."""
