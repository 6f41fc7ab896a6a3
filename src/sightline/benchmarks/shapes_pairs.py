"""The benchmarks that ask twice, in the bundled world: with an image and without, before and after an edit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sightline.benchmarks.amber import Amber
from sightline.benchmarks.base import Item, Parser, Verdict, register
from sightline.benchmarks.hallusionbench import HallusionBench
from sightline.benchmarks.mmvp import Mmvp
from sightline.benchmarks.naturalbench import NaturalBench
from sightline.benchmarks.shapes import Drawn
from sightline.zoo.official.naturalbench import ENDINGS
from sightline.zoo.questions import CHOICE_ENDINGS


@register
@dataclass(frozen=True)
class ShapesAmber(Drawn, Amber):
    """AMBER among coloured shapes: descriptions, and questions on existence, state, number and relation; no actions.

    The bundled models answer in small letters, which AMBER's script takes for no answer: here the first letter counts
    as a capital.
    """

    name: ClassVar[str] = "shapes-amber"
    title: ClassVar[str] = "AMBER (shapes)"
    new_tokens: ClassVar[int] = 64
    drawing: ClassVar[str] = "amber"

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        return super().judge(item, response[:1].upper() + response[1:], parser)


@register
@dataclass(frozen=True)
class ShapesHallusionBench(Drawn, HallusionBench):
    """HallusionBench among coloured shapes: the same question about a picture, about an edited one, and without any."""

    name: ClassVar[str] = "shapes-hallusionbench"
    title: ClassVar[str] = "HallusionBench (shapes)"
    drawing: ClassVar[str] = "hallusionbench"


@register
@dataclass(frozen=True)
class ShapesNaturalBench(Drawn, NaturalBench):
    """NaturalBench among coloured shapes: the second picture is the first with one thing changed.

    Questions end in words that the bundled models know, and not in the official suffix.
    """

    name: ClassVar[str] = "shapes-naturalbench"
    title: ClassVar[str] = "NaturalBench (shapes)"
    drawing: ClassVar[str] = "naturalbench"
    suffixes: ClassVar[Mapping[str, str]] = ENDINGS


@register
@dataclass(frozen=True)
class ShapesMmvp(Drawn, Mmvp):
    """MMVP among coloured shapes: two pictures that differ in one colour. Options are lines: "(A) red star"."""

    name: ClassVar[str] = "shapes-mmvp"
    title: ClassVar[str] = "MMVP (shapes)"
    drawing: ClassVar[str] = "mmvp"

    def words(self, question: str, options: str) -> str:
        first, _, second = options.partition(" (b) ")
        return f"{question}\n(A) {first.removeprefix('(a) ')}\n(B) {second}\n{CHOICE_ENDINGS[0]}"
