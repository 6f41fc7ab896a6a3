"""Is the paired test as sure as it says? On a benchmark's own files two made-up models without a difference.

    python benchmarks/independence.py pope:POPE/output/coco hallusionbench:HallusionBench --rounds 200 --out FILE

Each model is right on 75% of the questions. What is independent shares its luck: the same question about the same image
always, and of what is scored together (an image, a set, a group) four answers of five. Prints how often the p is
below 0.05 (wanted: 0.05) and how often the 95% interval of the difference holds 0 (wanted: 0.95).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from sightline.benchmarks import Item, find_bench
from sightline.benchmarks.compare import compare_verdicts, count_independent, independent_units
from sightline.stats import sign_flip

SHARED = 0.8


def simulate(spec: str, rounds: int, resamples: int, seed: int) -> dict[str, Any]:
    """One benchmark, `NAME:PATH` or `NAME+SPLIT:PATH`."""
    name, _, place = spec.partition(":")
    name, _, split = name.partition("+")
    bench = find_bench(name, split=split or None)
    items = [entry for entry in bench.truths(Path(place)) if isinstance(entry, Item)]
    verdicts = [(bench.judge(item, wrong(item)), bench.judge(item, str(item.truth).capitalize())) for item in items]
    assert all(right.right and not bad.right for bad, right in verdicts)
    blank = {item.id: bad for item, (bad, _) in zip(items, verdicts, strict=True)}
    unit_of: dict[str, int] = {}
    keys: dict[object, int] = {}
    for number, unit in enumerate(bench.units(items, blank)):
        for each in unit.ids:
            unit_of[each] = keys.setdefault(unit.key or number, len(keys))
    of = np.array([unit_of[item.id] for item in items])
    is_same = np.array([name in ("pope", "repope")] * len(items))  # one question about one image in several splits
    rng, found, held, figures = np.random.default_rng(seed), 0, 0, dict[str, list[bool]]()
    for _ in range(rounds):
        sides = []
        for _ in range(2):
            luck, own = rng.random(len(keys)) < 0.75, rng.random(len(items)) < 0.75
            right = np.where(is_same | (rng.random(len(items)) < SHARED), luck[of], own)
            sides.append({item.id: both[int(hit)] for item, both, hit in zip(items, verdicts, right, strict=True)})
        compared = compare_verdicts(bench, items, *sides, resamples=resamples)
        found += compared.p_value < 0.05
        for figure, (_, interval) in compared.figures.items():
            if interval is not None:
                figures.setdefault(figure, []).append(interval[0] <= 0 <= interval[1])
    held = {figure: float(np.mean(of_figure)) for figure, of_figure in figures.items()}
    units = count_independent(bench, items)
    about = {"bench": spec.partition(":")[0], "items": len(items), "units": units, "rounds": rounds}
    return {**about, "size": found / rounds, "coverage": held}


def tilted(spec: str, rounds: int, seed: int, shares: tuple[float, ...] = (0.02, 0.05, 0.1)) -> dict[str, Any]:
    """How often p is below 0.05 without a difference, and where a share of the units turns to no: {delta, found}.

    By the units alone, without judging words anew in each round, so that thousands of rounds take seconds.
    """
    name, _, place = spec.partition(":")
    name, _, split = name.partition("+")
    bench = find_bench(name, split=split or None)
    items = [entry for entry in bench.truths(Path(place)) if isinstance(entry, Item)]
    units, truths = independent_units(bench, items), {item.id: item.truth for item in items}
    of = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
    is_yes = np.array([truths[each] in ("yes", "A") for unit in units for each in unit])
    rng = np.random.default_rng(seed)

    def right() -> np.ndarray:
        luck, own = rng.random(len(units)) < 0.75, rng.random(len(of)) < 0.75
        return np.where((name in ("pope", "repope")) | (rng.random(len(of)) < SHARED), luck[of], own)

    def p_value(before: np.ndarray, after: np.ndarray) -> float:
        return sign_flip(*np.unique(np.bincount(of, after.astype(float) - before), return_counts=True))

    size = float(np.mean([p_value(right(), right()) < 0.05 for _ in range(rounds)]))
    found = {}
    for share in shares:
        pairs = [
            (before, np.where((rng.random(len(units)) < share)[of], ~is_yes, before))
            for before in (right() for _ in range(rounds // 10))
        ]
        delta = float(np.mean([after.mean() - before.mean() for before, after in pairs]))
        found[f"{share:g}"] = {"delta": delta, "found": float(np.mean([p_value(*pair) < 0.05 for pair in pairs]))}
    about = {"bench": spec.partition(":")[0], "items": len(items), "units": len(units), "rounds": rounds}
    return {**about, "size": size, "tilted": found}


def wrong(item: Item) -> str:
    """The other answer."""
    return {"yes": "No", "no": "Yes", "A": "B", "B": "A"}[str(item.truth)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("benches", nargs="+")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--p-alone", action="store_true", help="the test alone, also where a share of units turns to no"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = []
    for spec in given.benches:
        if given.p_alone:
            found.append(tilted(spec, given.rounds, given.seed))
        else:
            found.append(simulate(spec, given.rounds, given.resamples, given.seed))
        print(json.dumps(found[-1]), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
