"""Of a gain, the part that blind changes of as many answers would bring."""

from __future__ import annotations

import random
from statistics import mean

import pytest

from sightline.benchmarks.base import Item, Verdict
from sightline.benchmarks.tilt import tilt_of
from sightline.jobs.methods import method_specs, with_controls
from sightline.pages.tables.gains import tilt_table


def verdicts(truths: str, answers: str) -> tuple[list[Item], dict[str, Verdict]]:
    words = {"y": "yes", "n": "no", "?": None}
    items = [Item(str(place), "?", truth=words[truth]) for place, truth in enumerate(truths)]
    found = {
        str(place): Verdict(str(place), words[answer], answer == truths[place]) for place, answer in enumerate(answers)
    }
    return items, found


TRUTHS = "yyyyyynnnn" * 4
BEFORE = "yynnnnnnnn" * 4


def test_blind_changes_are_all_tilt() -> None:
    items, before = verdicts(TRUTHS, BEFORE)
    gains, parts = [], []
    rng = random.Random(0)
    for _ in range(400):
        now = list(BEFORE)
        for place in rng.sample([place for place, answer in enumerate(BEFORE) if answer == "n"], 8):
            now[place] = "y"
        found = tilt_of(items, before, verdicts(TRUTHS, "".join(now))[1])
        assert found is not None
        gains.append(found["gain"])
        parts.append(found["with_yes_ratio"])
    assert mean(gains) == pytest.approx(mean(parts), abs=0.01)
    assert len(set(parts)) == 1


def test_a_gain_at_the_same_ratio_is_none_of_it() -> None:
    items, before = verdicts("ynyn", "nyyn")
    found = tilt_of(items, before, verdicts("ynyn", "ynyn")[1])
    assert found == {"items": 4, "yes_ratio_a": 0.5, "yes_ratio_b": 0.5, "gain": 0.5, "with_yes_ratio": 0.0}


def test_fewer_yes_count_alike_and_what_is_neither_is_left_out() -> None:
    items, before = verdicts("nnny?y", "yyyy?y")
    found = tilt_of(items, before, verdicts("nnny?y", "nnyy??")[1])
    assert found is not None
    assert (found["items"], found["gain"]) == (4, 0.5)
    assert found["with_yes_ratio"] == pytest.approx(2 * (2 * 3 / 4 - 1) / 4)
    assert tilt_of(items[4:5], before, before) is None


def test_the_table_says_the_part() -> None:
    items, before = verdicts(TRUTHS, BEFORE)
    pair = {"b": "vcd", "tilt": tilt_of(items, before, verdicts(TRUTHS, "yyyynnnnnn" * 4)[1])}
    columns, rows = tilt_table({"paired": [pair, {"b": "pai", "tilt": None}]})
    assert "with the yes ratio" in " ".join(columns)
    assert [row[0] for row in rows] == ["vcd"]
    assert rows[0][1:] == ("20.0 to 40.0", "+20.0", "+0.0", "+20.0")


def test_controls_of_a_contrast_ask_with_a_tilted_prompt() -> None:
    specs = with_controls(method_specs(["none", "vcd", "icd"]))
    tilted = [spec for spec in specs if spec.view == "prompt tilt"]
    assert [spec.name for spec in tilted] == ["none@prompt tilt"]
    assert not any(spec.view for spec in with_controls(method_specs(["none", "spin"])))
