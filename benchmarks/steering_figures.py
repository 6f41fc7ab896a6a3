"""Figures of the steering tables: shares with their intervals, paired differences, and how a table says them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from sightline.stats import holm, sign_flip


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95% interval of a share."""
    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def paired(ours: Sequence[bool], base: Sequence[bool], scenes: int) -> dict[str, Any]:
    """Difference of two shares over the same items, its 95% interval (normal) and exact sign-flip p, both over scenes.

    Items that are `scenes` places apart are of one scene. Where each has one item the test is McNemar's.
    """
    changes = np.subtract(ours, base, dtype=int)
    by_scene = changes.reshape(-1, scenes).mean(0)
    delta, half = float(changes.mean()), 1.96 * float(by_scene.std()) / math.sqrt(scenes)
    flips = [int((changes > 0).sum()), int((changes < 0).sum())]
    return {"delta": delta, "ci95": [delta - half, delta + half], "p_value": sign_flip(by_scene), "flips": flips}


def adjust(tests: Iterable[dict[str, Any]]) -> None:
    """Holm's adjustment over all tests of one model."""
    every = list(tests)
    for test, p_value in zip(every, holm([test["p_value"] for test in every]), strict=True):
        test["p_holm"] = p_value


def share(right: Sequence[bool], places: int = 0) -> str:
    """78.9 (76 to 82), in percent."""
    low, high = wilson(sum(right), len(right))
    return f"{100 * sum(right) / len(right):.1f} ({100 * low:.{places}f} to {100 * high:.{places}f})"


def difference(told: dict[str, Any]) -> str:
    """+2.5, p 0.003, in points of 100 and adjusted."""
    value = told["p_holm"]
    said = "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
    return f"{100 * told['delta']:+.1f}, p {said}"


def write_tables(page: Path, results: Mapping[str, Path], table: Callable[[dict[str, Any]], str]) -> None:
    """Puts the table of each model that was measured between its marks on a page."""
    text = page.read_text(encoding="utf-8")
    for model, path in results.items():
        begin, end = f"<!-- {model} -->", f"<!-- end of {model} -->"
        if not path.is_file() or begin not in text:
            continue
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{table(json.loads(path.read_text()))}\n{end}{after}"
    page.write_text(text, encoding="utf-8")
