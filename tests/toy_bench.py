"""A small benchmark of yes/no questions on bundled scenes, for tests of what works on any benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks import base as benchmark
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict


@dataclass(frozen=True)
class Toy(Benchmark):
    """Items of a JSON-lines file of Item's fields, a line without prompt being a bad item; or scenes drawn by seed."""

    name: ClassVar[str] = "toy"
    title: ClassVar[str] = "Toy"
    new_tokens: ClassVar[int] = 3

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        if path is None:
            return list(drawn(12 if limit is None else limit, seed))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [
            Item(**{**line, "images": tuple(path.parent / name for name in line.get("images", ()))})
            if "prompt" in line
            else InvalidItem(line["id"], "the row cannot be read")
            for line in lines
        ]

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        words = response.lower().split()
        said = next((word for word in words if word in ("yes", "no")), None)
        if parser == "strict" and len(words) != 1:
            said = None
        return Verdict(item.id, said, said == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        told = [judgements[item.id] for item in items if item.id in judgements]
        right = sum(judgement.right for judgement in told)
        return {
            "n": len(told),
            "unparsed": sum(judgement.parsed is None for judgement in told),
            "accuracy": right / len(told) if told else None,
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        groups: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            if item.id in judgements:
                groups.setdefault((item.group, item.about.get("scene", item.id)), []).append(item)
        return [
            Unit(
                tuple(item.id for item in of),
                group,
                (float(sum(judgements[item.id].right for item in of)), float(len(of))),
            )
            for (group, _), of in groups.items()
        ]


def drawn(count: int, seed: int) -> Iterator[Item]:
    """Questions on scenes of the bundled world, their pictures in memory."""
    from sightline.zoo import shapes_samples

    for scene in shapes_samples(count, seed, "existence"):
        yield Item(scene["id"], scene["prompt"], (scene["image"],), scene["answer"].strip(" .").lower())


@dataclass(frozen=True)
class Ratio(Toy):
    """A headline that is a ratio of sums, as CHAIRi is: hallucinated over mentioned, by unit."""

    name: ClassVar[str] = "ratio"

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        return [
            Unit((item.id,), item.group, (detail["bad"], detail["all"]))
            for item in items
            if item.id in judgements and (detail := judgements[item.id].detail)
        ]

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        # The mean over strata, as MME's and BLINK's totals are put together.
        return np.asarray(np.mean([total[..., 0] / total[..., 1] for total in totals.values()], axis=0))


@contextmanager
def registered() -> Iterator[None]:
    """Inside, the command line knows `toy`."""
    benchmark.register(Toy)
    try:
        yield
    finally:
        benchmark.BENCHMARKS.forget("toy")
