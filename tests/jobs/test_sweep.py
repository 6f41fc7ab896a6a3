"""A sweep chooses on one half and runs the chosen setting once on the other; gains are shown against their cost."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.errors import InputError
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.sweep import Sweep, halves_of, settings_in
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
