"""The scripts in benchmarks/ go on with the names that the package has."""

from __future__ import annotations

import importlib
import re
import sys

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


def test_the_script_for_a_gpu_runs_scripts_that_are_there_with_options_they_have() -> None:
    parts = re.findall(r"part \w+ \d+ (\w+) (.+)", (FOLDER / "gpu.sh").read_text(encoding="utf-8"))
    assert len(parts) >= 10
    for script, options in parts:
        source = (FOLDER / f"{script}.py").read_text(encoding="utf-8")
        for option in re.findall(r"--[a-z-]+", options):
            assert f'"{option}"' in source, (script, option)
