"""sightline sinks: what it prints; what it finds is `tests/jobs/test_find_sinks.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_in_words(sightline: Callable[..., Any], tiny: Path, deep: Path, data: Path) -> None:
    ended = sightline("sinks", deep, "--data", data, "--out", "run")
    assert "sink dimensions 5" in ended.out
    assert "image sinks" in ended.out
    assert "Sample s3 failed" in ended.err
    assert "a few dozen tell more surely" in ended.err
    one = ("--image", data.parent / "picture.png", "--prompt", "What do you see?")
    assert "has no sink dimensions" in sightline("sinks", tiny, *one).out
    assert not Path("runs").exists()
    ended = sightline("generate", tiny, *one, "--new-tokens", 2, "--method", "var:dims=3,tau=20")
    assert "Note: var changes nothing: no phi exceeds" in ended.err


def test_mistakes(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    assert "There is nothing to measure" in sightline("sinks", tiny).sentence
    assert "--tau" in sightline("sinks", tiny, "--data", data, "--tau", 0).sentence
    ended = sightline("sinks", tiny, "--data", data, "--factor", "inf", "--out", "run")
    assert (ended.code, ended.sentence) == (2, "factor is inf: give a number above 0.")
    assert not Path("run").exists()
