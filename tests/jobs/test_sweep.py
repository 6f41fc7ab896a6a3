"""A sweep chooses on one half and runs the chosen setting once on the other; gains are shown against their cost."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sightline as sl
from sightline.errors import InputError
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.sweep import Sweep, halves_of, plain_of, settings_in
from sightline.jobs.time_ratio import time_ratio
from sightline.pages.tables.gains import CostPoint, cost_points, cost_table, front


@cache
def items() -> Any:
    return find_items("shapes-pope", limit=36)


def test_a_sweep_is_every_combination_of_its_values() -> None:
    assert settings_in("vcd:alpha=0.5|1") == ("vcd:alpha=0.5", "vcd:alpha=1")
    found = settings_in("vaf:enhance=1.1|1.2,suppress=0.9|1")
    assert found[1] == "vaf:enhance=1.1,suppress=1"
    assert len(found) == 4
    for written in ("vcd:alpha=1|", "vcd:alpha=1|1", "vcd|pai"):
        with pytest.raises(InputError, match="empty or repeated value"):
            settings_in(written)


def test_halves_part_no_image() -> None:
    one, other = halves_of(items(), 0)
    assert {item.id for item in one.items} | {item.id for item in other.items} == {item.id for item in items().items}
    assert not {item.id for item in one.items} & {item.id for item in other.items}
    for item in one.items:
        assert (item.images, item.prompt) not in [(each.images, each.prompt) for each in other.items]
    assert halves_of(items(), 0)[0].items == one.items
    assert halves_of(items(), 1)[0].items != one.items
    with pytest.raises(InputError, match="shapes-pope has 1 here: give 4 or more"):
        halves_of(find_items("shapes-pope", limit=2), 0)


def test_the_chosen_setting_is_run_once_on_the_held_out_half(tmp_path: Path) -> None:
    methods = ["none", "cut_off", "yes_bias:margin=0.1|1"]
    found = sl.evaluate("tiny-llava-early", "shapes-pope", methods, limit=36, out=tmp_path / "run")
    assert isinstance(found, Sweep)
    document = found.to_dict()
    assert list(document["tuning"]["methods"]) == ["none", "yes_bias:margin=0.1", "yes_bias:margin=1"]
    (chosen,) = document["chosen"].values()
    best = max(document["tuning"]["methods"][name]["accuracy"] for name in ("yes_bias:margin=0.1", "yes_bias:margin=1"))
    assert document["tuning"]["methods"][chosen]["accuracy"] == best
    assert list(document["held_out"]["methods"]) == ["none", "cut_off", chosen]
    assert document["tuning"]["n"] + document["held_out"]["n"] == 36
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["chosen"] == document["chosen"]
    assert len(found.held_out.plot(metric="cost").texts) == 3
    assert "half held out" in str(found)
    assert "Gain against cost" in str(found)
    assert "cache MB" in str(found)
    assert found.held_out.plot(metric="cache").get_xlabel() == "megabytes of cache an answer"
    with pytest.raises(InputError, match="one benchmark and one model"):
        sl.evaluate(["tiny-llava", "tiny-llava-early"], "shapes-pope", methods, limit=36)


def test_a_tie_is_said_and_both_halves_have_the_same_base() -> None:
    methods = ["cut_off", "yes_bias:margin=0.000001|0.000002"]
    found = sl.evaluate("tiny-llava-early", "shapes-pope", methods, limit=36, controls=True)
    document = found.to_dict()
    tied = ["yes_bias:margin=0.000001", "yes_bias:margin=0.000002"]
    assert document["chosen"] == {methods[1]: tied[0]}
    assert document["tied"] == {methods[1]: tied}
    assert "the first of all 2 that tie on this half" in str(found)
    for half in ("tuning", "held_out"):
        assert {pair["a"] for pair in document[half]["paired"]} == {"none"}
    assert plain_of(["opera", "vcd:alpha=1|2"], False) == ["opera"]
    assert plain_of(["vcd:alpha=1|2"], False) == ["none"]
    assert plain_of([" none", "vcd:alpha=1|2"], True) == [" none"]


def test_a_difference_in_seconds_within_the_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    plain = {str(n): 1 + rng.random() for n in range(60)}
    noisy = {name: value * rng.choice([0.1, 1.9]) for name, value in plain.items()}
    slow = {name: 2 * value + 0.1 * rng.random() for name, value in plain.items()}
    ratio, spread = time_ratio(plain, slow, False)
    assert spread is not None
    assert spread[0] < ratio < spread[1] < 2.1
    assert spread[0] > 2
    _, noise = time_ratio(plain, noisy, False)
    assert noise is not None
    assert noise[0] < 1 < noise[1]
    batches = {str(n): float(n // 30) + 1 for n in range(60)}
    assert time_ratio(batches, {name: value / 2 for name, value in batches.items()}, True) == (0.5, None)
    three = {str(n): float(n // 20) + 1 for n in range(60)}
    assert time_ratio(three, three, True) == (1.0, pytest.approx((1.0, 1.0)))
    assert time_ratio({}, {}, True) == (None, None)

    def points(quick: tuple[float, tuple[float, float] | None]) -> list[str]:
        timed = {"none": (0.8, 1.0, None), "quick": (0.8, quick[0], quick[1]), "good": (0.9, 1.5, (1.4, 1.6))}
        methods = {
            name: {
                "accuracy": value,
                "seconds_per_item": times,
                "times_the_first": times,
                "times_the_first_ci95": bounds,
            }
            for name, (value, times, bounds) in timed.items()
        }
        document = {"headline": "accuracy", "better": "larger", "methods": methods}
        return [row[0] + row[4] for row in cost_table(document)[1] if row[-1] == "front"]

    assert points((0.7, (0.6, 0.8))) == ["quick0.70 (0.60 to 0.80)", "good1.50 (1.40 to 1.60)"]
    assert points((0.7, (0.4, 1.2))) == ["none1.00", "quick0.70 (0.40 to 1.20)", "good1.50 (1.40 to 1.60)"]
    assert points((0.7, None)) == [
        "none1.00",
        "good1.50 (1.40 to 1.60)",
    ]  # good is better, and quick not surely quicker


def test_the_front_is_what_no_other_beats() -> None:
    seconds = {
        "none": (0.8, 1.0),
        "slow": (0.9, 2.0),
        "slower": (0.85, 3.0),
        "quick": (0.7, 0.5),
        "blank image": (0.5, 1),
    }
    methods = {name: {"accuracy": value, "seconds_per_item": cost} for name, (value, cost) in seconds.items()}
    document = {"headline": "accuracy", "better": "larger", "methods": methods}
    points = cost_points(document)
    assert [point.label for point in front(points)] == ["none", "slow", "quick"]
    _, rows = cost_table(document)
    assert rows[1] == ("slow", "0.9000", "+0.1000", "2", "2.00", "front")
    worse = cost_points({**document, "better": "smaller"})
    assert CostPoint("quick", 0.7, pytest.approx(0.1), 0.5) in worse
