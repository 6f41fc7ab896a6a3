"""sightline reproduce: what it lists and refuses; what it runs is `tests/reproduce/test_tables.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.published.table import TABLES

NAMES = sorted(path.stem for path in TABLES.glob("*.yaml"))


def test_they_are_listed(sightline: Callable[..., Any]) -> None:
    found = sightline("reproduce", "--list", "--json").document["reproductions"]
    assert [entry["name"] for entry in found] == NAMES
    assert sightline("list", "reproductions", "--json").document["reproductions"] == found
    told = sightline("reproduce", "--list").out
    assert all(name in told for name in NAMES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("langoverrule-imag",), "did you mean langoverrule-image"),
        (("\u202evcd\u0000 \U0001f600",), "; there are adhh-chair, "),
        ((), "No table is named"),
        (("langoverrule-video",), "give --model with a folder"),
        (("langoverrule-audio",), "needs --data. JSON lines"),
        (("langoverrule-audio", "--data", "missing.jsonl"), "missing.jsonl does not exist"),
        (("vcd-pope", "--data", "nowhere", "--model", "tiny-llava"), "nowhere"),
        (("vcd-pope", "--image-list", "x.txt"), "are of CHAIR"),
        (("var-pope", "--model", "tiny-llava", "--data", "shapes-pope"), "needs the model's sink dimensions"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_loads(
    sightline: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    assert said in sightline("reproduce", *words).err
    assert not list(Path().glob("runs/*"))
