"""sightline measure: what it prints, and where it keeps it; what it measures is `tests/jobs/test_measure.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.models.vlm import VLM
from sightline.runs.records import read_records

FEW = ("--new-tokens", 3)


def test_tables_without_json(sightline: Callable[..., Any], tiny: Path, idle: str) -> None:
    words = ("measure", tiny, "--data", "shapes", "--limit", 2)
    ended = sightline(*words, "--stages", "thirds", *FEW)
    assert ended.code == 0
    for word in ("2 samples", "MDI", "AEI", "Stages", "early", "middle", "late", "95% interval"):
        assert word in ended.out
    (folder,) = Path("runs").iterdir()
    assert str(folder) in ended.err
    assert len(read_records(folder)) == 2
    ended = sightline(*words, "--queries", "prompt", "--method", idle, "--published", "llava-1.5-7b")
    for word in ("MDI by layer", idle, "Published"):
        assert word in ended.out


@pytest.mark.usefixtures("drawn")
def test_what_is_said_to_be_kept_of_two_query_sets_is_there(sightline: Callable[..., Any], tiny: Path) -> None:
    words = ("--queries", "prompt", "--queries", "all", "--out", "run")
    ended = sightline("measure", tiny, "--data", "shapes", "--limit", 1, *words)
    kept = ended.err.split("Kept in run: ")[1].split(".\n")[0].split(", ")
    assert kept == ["prompt/", "all/", "summary.json", "figures/"]
    assert all((Path("run") / each).exists() for each in kept)


def test_one_sample_is_only_printed(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    ended = sightline("measure", tiny, "--image", picture, "--prompt", "Is there a red circle?", "--json", *FEW)
    assert ended.document["samples"] == 1
    assert isinstance(ended.document["text"], str)
    assert not Path("runs").exists()
    two = ("--image", picture, "--image", picture)
    ended = sightline("measure", tiny, *two, "--prompt", "What?", "--json", "--out", "kept", *FEW)
    assert ended.document["tokens"]["image"] == 18.0
    assert json.loads(Path("kept/summary.json").read_text()) == ended.document


def test_bad_samples_are_named(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    ended = sightline("measure", tiny, "--data", data, "--out", "run", *FEW)
    assert ended.code == 0
    assert "Sample s3 failed" in ended.err


def test_stopped_from_the_keyboard_it_says_how_to_go_on(
    sightline: Callable[..., Any], tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, calls = VLM.generate_tokens, []

    def interrupted(self: VLM, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, *arguments, **options)

    monkeypatch.setattr(VLM, "generate_tokens", interrupted)
    words = ("measure", tiny, "--data", data, "--out", "run", "--json", "--batch-size", 1, *FEW)
    ended = sightline(*words)
    assert ended.code == 1
    assert "1 samples are in run" in ended.sentence
    assert "--out run" in ended.sentence
    assert sightline(*words).document["samples"] == 3
