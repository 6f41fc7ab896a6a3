"""The demo's parts: begun anew when it is over, its question, its false captions, its sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.jobs.demo import FOLDERS, begin_anew
from sightline.jobs.demo_findings import compared, strongest
from sightline.jobs.demo_scenes import false_captions, find_question
from sightline.runs.folder import Run


def test_a_demo_that_is_over_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for name in (*FOLDERS, "photos"):
        with Run.open(tmp_path / name, "measure", {"seed": 0}) as run:
            run.record("1", result={})
            run.finish({})
    begin_anew(tmp_path)
    assert (tmp_path / "measure").exists(), "an interrupted demo goes on"
    (tmp_path / "summary.json").write_text('{"command": "demo"}')
    begin_anew(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "photos"]


@pytest.mark.parametrize("torn", ["", "[]", "{", '{"command": "measure"}'])
def test_what_is_no_demo_is_left_alone(tmp_path: Path, torn: str) -> None:
    (tmp_path / "measure").mkdir()
    (tmp_path / "measure" / "summary.json").write_text("{}")
    (tmp_path / "summary.json").write_text(torn)
    begin_anew(tmp_path)
    assert (tmp_path / "measure" / "summary.json").exists()


@pytest.mark.parametrize("seed", range(5))
def test_the_question_is_about_one_object(seed: int) -> None:
    question = find_question(seed)
    cell = (question.column / 3, question.row / 3, (question.column + 1) / 3, (question.row + 1) / 3)
    assert question.holds(cell)
    assert not question.holds((0.0, 0.0, 1 / 3, 1 / 3)) or (question.row, question.column) == (0, 0)
    assert not question.holds(None)


def test_false_captions_come_in_pairs_that_differ_in_the_labelled_words() -> None:
    found = false_captions(4, seed=3)
    assert len(found) == 8
    for true, false in zip(found[::2], found[1::2], strict=True):
        ((start, end, label),), ((same, other, none),) = true.words or (), false.words or ()
        assert (start, label, none) == (same, 1, 0)
        assert true.answer[:start] + true.answer[end:] == false.answer[:start] + false.answer[other:]
        assert true.images == false.images
        assert true.answer[start:end] != false.answer[same:other]


@pytest.mark.parametrize(
    ("better", "delta", "ci95", "verdict"),
    [
        ("larger", 0.1, (0.05, 0.15), "better"),
        ("smaller", 0.1, (0.05, 0.15), "worse"),
        ("smaller", -0.1, (-0.15, -0.05), "better"),
        ("larger", 0.1, (-0.05, 0.25), "within chance"),
    ],
)
def test_a_comparison_says_whether_it_is_chance(better: str, delta: float, ci95: Any, verdict: str) -> None:
    told = {
        "bench": "b",
        "n": 3,
        "headline": "chair_s",
        "better": better,
        "methods": {"none": {"chair_s": 0.5}, "vcd": {"chair_s": 0.5 + delta}},
        "paired": [{"a": "none", "b": "vcd", "delta": delta, "ci95": ci95}],
    }
    assert f": {verdict}" in compared(told)[0]
    told["paired"][0]["ci95"] = None  # type: ignore[index]
    assert compared(told)[0].startswith("b, 3 items, chair s: none 50.0%")


def test_the_strongest_part_may_be_elsewhere() -> None:
    question = find_question(0)
    box = [0.0, 0.0, 1 / 3, 1 / 3] if (question.row, question.column) != (0, 0) else [2 / 3, 2 / 3, 1.0, 1.0]
    told = {
        "layer_numbers": [4, 7],
        "maps": {"logprob": [[0.5, None], [0.25, -2.0]]},
        "tokens": [{"text": "here", "box": None}, {"text": "rows 0-1", "box": box}],
        "baseline": {"text": "no"},
    }
    sentence = strongest(told, question)
    assert "Hiding rows 0-1 of the patches, where it is not, in layer 7 takes 2.00 off" in sentence
