"""sightline impact: what it prints; what it does is `tests/jobs/test_impact.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ASK = ("--prompt", "is there a red circle ?")


def test_the_tables(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    words = ("--mode", "local", "--per-head", "--block", 2, "--control", 2)
    ended = sightline("impact", tiny, "--image", picture, *ASK, *words)
    assert ended.code == 0, ended.err
    for word in ("predicts", "Largest effects", "rows 0-1, columns 0-1", "Mean size", "image"):
        assert word in ended.out
    for word in ("random text", "random image"):
        assert word in ended.out, "controls of each modality, beside its own sources"
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("impact-picture-")
    assert str(folder) in ended.err
    assert any(name.startswith("l2_head") for name in pd.read_csv(folder / "impact.csv").columns)
    causal = ("impact", tiny, "--image", picture, *ASK, "--new-tokens", 2, "--unit", "modality", "--out", "run")
    assert "answers:" in sightline(*causal).out
    both = sightline("impact", tiny, "--image", picture, *ASK, "--unit", "word", "--compare", tiny, "--out", "two")
    assert both.code == 0, both.err


def test_a_file_of_prompts(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    Path("prompts.yaml").write_text(f"images: {picture}\nsettings: {{unit: word}}\nprompts: ['how many ?', 'red ?']")
    words = ("impact", tiny, "--config", "prompts.yaml", "--mode", "local", "--out", "run")
    assert [entry["mode"] for entry in sightline(*words, "--json").document["prompts"]] == ["local"] * 2
    assert "largest effects" in sightline(*words).out
    Path("prompts.yaml").write_text("prompts: [{id: a}]")
    assert "prompt 1 of prompts.yaml has no text" in sightline(*words).sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing to look at"),
        (("--image", "none.png", *ASK), "none.png does not exist"),
        ((*ASK, "--row", "first"), "not a position, last or all"),
        ((*ASK, "--row", "all"), "reads one row"),
        ((*ASK, "--layers", "4-2"), "is no layer"),
        ((*ASK, "--positions", "1,,2"), "a position"),
        ((*ASK, "--config", "prompts.yaml"), "not both"),
        (("--config", "none.yaml"), "none.yaml cannot be read"),
        ((*ASK, "--mode", "vision", "--window", "9"), "has no setting window"),
        ((*ASK, "--mode", "vision", "--compare", "tiny-llava"), "compared in the modes local and causal"),
        ((*ASK, "--window", "0"), "0 is not in the range"),
    ],
)
def test_each_wrong_wish_is_one_sentence(sightline: Callable[..., Any], words: tuple[str, ...], sentence: str) -> None:
    ended = sightline("impact", "tiny-llava", *words)
    assert ended.code == 2
    assert sentence in ended.sentence
