"""Benchmarks drawn from the small world, in the files and folders of the official ones.

One writer a benchmark; each takes a folder, how many questions, a seed and the pictures' side in pixels, and
the same of these is the same files. A larger count begins with the smaller one's questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sightline.zoo.official import amber, blink, chair, hallusionbench, mme, mmmu_pro, mmvp, naturalbench, pope
from sightline.zoo.official.files import Tick


@dataclass(frozen=True)
class Layout:
    """How one benchmark is drawn.

    count: questions by default. unit: what is counted. about: what is drawn, and what is not, in a sentence or two.
    """

    write: Callable[[Path, int, int, int, Tick], None]
    count: int
    unit: str
    about: str
    configs: tuple[tuple[str, str], ...] = ()


LAYOUTS: dict[str, Layout] = {
    "pope": Layout(
        pope.write,
        900,
        "questions",
        "Yes/no questions in three splits; popular and adversarial negatives by the world's own co-occurrence.",
    ),
    "chair": Layout(
        chair.write,
        200,
        "pictures",
        "COCO annotations, five captions a picture, and a synonym file of the world's 25 objects.",
    ),
    "mme": Layout(
        mme.write,
        400,
        "questions",
        "Two questions a picture, one yes and one no, in the subtasks existence, count, position and color; the other "
        "ten official subtasks mean nothing in this world and are left out.",
    ),
    "blink": Layout(
        blink.write,
        300,
        "questions",
        "Multiple choice over one or three pictures in five of the fourteen official subtasks; the bundled models were "
        "trained on none of them.",
        tuple((name, f"{name}/val-*") for name in blink.SUBTASKS),
    ),
    "mmmu-pro": Layout(
        mmmu_pro.write,
        200,
        "questions in each of three configurations",
        "Multiple choice of up to ten options. In `vision` the question and its options are NOT drawn into the "
        "picture, as they officially are, since the bundled models cannot read: they stay text.",
        tuple((name, f"{name}/test-*") for name in mmmu_pro.CONFIGS),
    ),
    "amber": Layout(
        amber.write,
        300,
        "queries",
        "Of each picture a description and four yes/no questions, on existence, state, number and relation; objects "
        "are the five shapes, and there are no actions.",
    ),
    "hallusionbench": Layout(
        hallusionbench.write,
        300,
        "questions",
        "The same questions about a picture, about one that is edited so that their answers turn round, and, in VS, "
        "without any.",
    ),
    "naturalbench": Layout(
        naturalbench.write,
        320,
        "questions",
        "Groups of two questions about two pictures, which differ in one thing; yes/no and of two options in turn.",
    ),
    "mmvp": Layout(
        mmvp.write,
        200,
        "questions",
        "Pairs of pictures that differ in one colour; which of two objects is there.",
    ),
}

__all__ = ["LAYOUTS", "Layout"]
