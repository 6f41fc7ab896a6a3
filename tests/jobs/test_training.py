"""sl.train: what its settings say is done, and two trainings do not share a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.runs.processes import held_alone

QUICK: dict[str, Any] = {"steps": 2, "batch_size": 2, "log_steps": 1, "save_steps": 1, "limit": 4, "eval_limit": 3}


def test_it_evaluates_and_keeps_as_its_settings_say(tmp_path: Path) -> None:
    more = {"eval_benches": ["shapes-pope"], "eval_steps": 1, "keep": "best"}
    document = sl.train("tiny-llava-early", "shapes", out=tmp_path / "t", **more, **QUICK).to_dict()
    steps = [each["step"] for each in document["evaluation"]["all"]]
    assert steps[:3] == [0, 1, 2]
    assert set(document["evaluation"]["after"]) >= {"step", "shapes-pope.accuracy"}
    by_step = {each["step"]: each["shapes-pope.accuracy"] for each in document["evaluation"]["all"][1:3]}
    assert by_step[document["kept_step"]] == max(by_step.values())
    assert json.loads((tmp_path / "t" / "training.json").read_text())["settings"]["keep"] == "best"
    assert sl.measure(str(tmp_path / "t"), "shapes", limit=1).to_dict()["samples"] == 1


def test_the_best_needs_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(sl.InputError, match="keep is best, and nothing is evaluated"):
        sl.train("tiny-llava-early", "shapes", out=tmp_path / "t", keep="best", **QUICK | {"eval_limit": 0})


def test_a_folder_that_is_trained_into_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    quick = QUICK | {"eval_limit": 0, "steps": 1}
    with held_alone(tmp_path / "t", "trained into"), pytest.raises(sl.InputError, match="being trained into"):
        sl.train("tiny-llava-early", "shapes", out=tmp_path / "t", resume=True, **quick)
    sl.train("tiny-llava-early", "shapes", out=tmp_path / "t", resume=True, **quick)
