"""Before a run: what a difference needs; and what an evaluation says of odd items and unread answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import sightline as sl
from sightline.cli.eval import command
from sightline.errors import InputError


def test_the_plan_counts_independent_items_and_loads_no_model() -> None:
    arguments = ["no-such-model", "--bench", "shapes-pope", "--limit", "300", "--plan", "0.02", "--json"]
    printed = CliRunner().invoke(command, arguments, catch_exceptions=False)
    (plan,) = json.loads(printed.stdout)["plans"]
    assert plan["items"] == 300
    assert plan["units"] < 300  # the same questions stand in several splits
    assert plan["needed"]["0.1"] == 1960
    assert plan["smallest"]["0.1"] > 0.02
    with pytest.raises(InputError, match="give a share between 0 and 1"):
        CliRunner().invoke(command, [*arguments[:-2], "2"], catch_exceptions=False)


def test_the_plan_needs_no_images(tmp_path: Path) -> None:
    lines = [
        {"question_id": place, "image": f"{place}.jpg", "text": f"Is there a dog {place}?", "label": label}
        for place, label in enumerate(["yes", "no"] * 10)
    ]
    (tmp_path / "coco_pope_random.json").write_text("\n".join(map(json.dumps, lines)))
    arguments = ["no-such-model", "--bench", f"pope:{tmp_path}", "--plan", "0.2", "--json"]
    printed = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert json.loads(printed.stdout)["plans"][0]["units"] == 20


def test_mmes_hallucination_subset() -> None:
    from sightline.benchmarks import find_bench

    assert find_bench("mme", split="hallucination")._subtasks() == ("existence", "count", "position", "color")  # type: ignore[attr-defined]


def test_unread_answers_of_an_evaluation_are_shown(tmp_path: Path) -> None:
    found = sl.evaluate(
        "tiny-llava", "shapes-pope", limit=12, parser="strict", template="{question} Describe the image."
    )
    unread = found.to_dict()["methods"]["none"]["unparsed"]
    assert bool(found.notes()) == (unread > 1.2)
