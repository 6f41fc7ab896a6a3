"""The scripts in benchmarks/ go on with the names that the package has."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.pages import ROOT

FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_all_that_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    try:
        importlib.import_module(name)
    finally:  # their names are too plain to stay
        for script in SCRIPTS:
            sys.modules.pop(script, None)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("gpu")
    for script in SCRIPTS:
        sys.modules.pop(script, None)


def test_the_parts_for_a_gpu_are_scripts_with_options_they_have_within_eight_minutes(gpu: Any) -> None:
    assert sum(part.seconds for part in gpu.PARTS) <= gpu.SECONDS == 8 * 60
    for part in gpu.PARTS:
        source = (FOLDER / f"{part.script}.py").read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-0-9]+", f"{part.whole} {part.small}"):
            assert f'"{option}"' in source, (part.name, option)


def test_a_part_that_fails_or_takes_too_long_or_lacks_a_package_says_so_and_keeps_what_it_wrote(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "FOLDER", tmp_path)
    begin = "import sys, pathlib, time; pathlib.Path(sys.argv[-1]).write_text('{\"first\": 1}')\n"
    (tmp_path / "good.py").write_text(begin)
    (tmp_path / "bad.py").write_text(begin + "raise SystemExit('out of memory')")
    (tmp_path / "slow.py").write_text(begin + "time.sleep(60)")
    monkeypatch.setitem(gpu.NEEDS, "--lora", "no_such_package")
    found = {
        name: gpu.result_of(gpu.Part(name, name, limit, "", options), "cpu", True, 60.0)
        for name, limit, options in (("good", 9, ""), ("bad", 9, ""), ("slow", 0.2, ""), ("none", 9, "--lora 4"))
    }
    assert [done["state"] for done in found.values()] == ["done", "failed", "over time", "left out"]
    assert [done.get("why") for done in found.values()] == [
        None,
        "out of memory",
        "stopped after 0.8 s",
        "no_such_package is not installed",
    ]
    assert all(found[name]["result"] == {"first": 1} for name in ("good", "bad", "slow"))
    assert gpu.result_of(gpu.PARTS[0], "cpu", True, 0.0)["why"] == "no time was left"


def test_models_whose_fault_is_known_are_asked_as_many_questions_of_yes_as_of_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    asked = importlib.import_module("steering_questions")
    for model, fault in asked.FAULTS.items():
        truths = [each.truth for each in asked.questions_of(model, 4)["fault"]]
        if fault.is_whole:
            assert [set(pair) for pair in zip(truths[:4], truths[4:], strict=True)] == [{"yes", "no"}] * 4, model
        elif "reliance" not in model:  # where the words give it away, only about half
            assert truths.count("yes") == truths.count("no") == 2, model


def test_where_sinks_are_planted_var_is_tried_as_published_and_as_mends_each_beside_its_control(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    rows = importlib.import_module("steering_rows").rows_of({"rho": 0.95})
    of_sinks = [row.spec for row in rows if "SINKS" in row.spec]
    assert [spec for spec in of_sinks if spec.startswith("var")] == [
        "var:SINKS",
        "var_random:SINKS",
        "var:SINKS,rho=0.95",
        "var_random:SINKS,rho=0.95",
    ]
    assert not any("FORCED" in row.spec or row.sampled for row in rows)
