"""What `impact` says on the console: what the row predicts, heads by name, files that are there, a fresh start."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.jobs.impact_plan import ImpactPlan, requests_of
from sightline.jobs.impact_settings import ImpactSettings
from sightline.knockout.study import Study
from sightline.pages.impact_drawing import title
from sightline.pages.impact_figures import heat_map
from sightline.pages.impact_words import place_of
from sightline.pages.page_maps import impact_maps
from sightline.pages.tables.impact import sections
from sightline.results.plain import plain_text

SAMPLE = sl.Sample(prompt="is there a red circle in the image ?", image=Image.new("RGB", (48, 48), (200, 30, 30)))


@cache
def tiny() -> Any:
    return sl.load("tiny-llava")


@pytest.mark.parametrize("mode", ["lens", "causal"])
def test_what_the_row_predicts_is_told_beside_the_word_that_is_followed(mode: Any) -> None:
    found = sl.impact(tiny(), SAMPLE, mode=mode, target="circle", unit="modality", layers=[7])
    assert found.baseline["text"].strip() == "circle"
    answer = found.baseline["predicted_text"].strip()
    assert answer in ("yes", "no")
    words = plain_text(sections(found.to_dict()))
    assert f"predicts {answer} with probability {found.baseline['predicted_prob']:.4f}; circle, which is fo" in words
    assert f"{found.baseline['prob']:.3g}." in words
    assert "followed “circle”" in title(found)
    assert impact_maps([found])["words"][0][0] == f"{found.baseline['predicted_text']}; followed: circle"


def test_the_heads_that_look_at_a_place_and_the_place_are_told() -> None:
    found = sl.impact(tiny(), SAMPLE, mode="locate", tokens="image")
    heads = ", ".join(found.baseline["heads"])
    words = plain_text(sections(found.to_dict()))
    assert f"The heads {heads} look at one place: {place_of(found.baseline)}." in words
    assert place_of({"box": [1, 0, 2, 3]}) == "row 1, columns 0 to 2 of the patches"
    (label,) = heat_map(found).axes[0].get_yticklabels()
    assert label.get_text() == f"heads {heads}"


def test_files_are_named_that_are_there_alone(tmp_path: Path) -> None:
    model: Any = None
    one = ImpactPlan(model, requests_of([SAMPLE], Study(mode="registers")), ImpactSettings(), is_single=True)
    two = ImpactPlan(model, requests_of([SAMPLE], Study(mode="registers")), ImpactSettings())
    place = two.place_of(two.requests[0], tmp_path)
    place.mkdir(parents=True)
    for folder in (tmp_path, place):
        (folder / "impact.json").touch()
    (tmp_path / "summary.json").touch()
    assert one.files(tmp_path) == "impact.json"
    assert two.files(tmp_path) == "prompts/*/ (impact.json), summary.json"
    for folder in (tmp_path, place):
        (folder / "registers.json").touch()
    assert one.files(tmp_path) == "impact.json, registers.json"
    assert two.files(tmp_path) == "prompts/*/ (impact.json, registers.json), registers.json, summary.json"


def test_a_fresh_run_has_nothing_done_already() -> None:
    seen: list[tuple[int, int]] = []
    Study(mode="tower", layers=(0,), block=6).run(
        tiny(), SAMPLE, on_pass=lambda done, total: seen.append((done, total))
    )
    assert seen == [(0, 1), (1, 1)]
