"""sightline demo, on the bundled models themselves, with few scenes and questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_demo_tells_the_whole_story(
    sightline: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ended = sightline("demo", "--limit", 2, "--items", 24)
    assert ended.code == 0, ended.err
    document = json.loads(Path("demo-run/summary.json").read_text())
    late = document["stages"]["late"]["mdi"]
    assert f"draws {late:.2f} times" in ended.out
    assert document["sinks"]["dims"] == [23, 46]
    assert "dimensions 23, 46, precision" in ended.out
    (evaluated,) = document["evaluations"]
    assert [pair["b"].partition(":")[0] for pair in evaluated["paired"]] == ["var", "var_random"]
    assert "shapes-pope, 24 items, accuracy: none " in ended.out
    looks, looks_not = (each["reliance"]["share"] for each in document["reliance"]["models"])
    assert looks > looks_not
    assert "In truth 98%" in ended.out
    assert "where it is, in layer 0" in ended.out
    assert document["grounding"]["captions"] == 24
    assert f"AUROC {document['grounding']['auroc']:.2f}" in ended.out
    page = Path(document["report"])
    assert page == Path("demo-run/report.html")
    assert page.stat().st_size > 100_000
    commands = [line.split()[1] for line in ended.out.splitlines() if line.startswith("   sightline ")]
    assert commands == ["measure", "measure", "sinks", "eval", "impact", "report"]
