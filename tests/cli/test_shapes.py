"""sightline shapes: a drawn benchmark on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.benchmarks import find_bench


@pytest.mark.parametrize("bench", ["pope", "chair", "mme", "blink", "mmmu-pro", "shapes-pope"])
def test_it_draws_what_the_benchmark_reads(sightline: Callable[..., Any], tmp_path: Path, bench: str) -> None:
    out = tmp_path / "below" / "drawn"
    document = sightline("shapes", "--bench", bench, "--out", out, "--count", 10, "--size", 24, "--json").document
    name = bench.removeprefix("shapes-")
    assert document["bench"] == name
    assert (document["count"], document["seed"], document["size"]) == (10, 0, 24)
    assert (out / "README.md").read_text().count("not the official data") == 1
    kind = find_bench(f"shapes-{name}")
    items = kind.load(out)
    assert len(items) >= 10
    assert kind.sample(items[0]).load_images()[0].size == (24, 24)


def test_it_says_what_was_drawn(sightline: Callable[..., Any]) -> None:
    ended = sightline("shapes", "--bench", "mmmu-pro", "--out", "here", "--count", 2)
    assert ended.code == 0
    assert "here: mmmu-pro, 2 questions in each of three configurations, seed 0, 48 x 48 pixels." in ended.out
    assert "NOT drawn into the picture" in ended.out
    assert "--bench shapes-mmmu-pro:here" in ended.out
    assert "Draws a benchmark" in sightline("shapes", "--help").out


def test_wrong_input_is_one_sentence(sightline: Callable[..., Any], tmp_path: Path) -> None:
    def refused(*words: object) -> str:
        ended = sightline("shapes", *words)
        assert ended.code == 2
        return str(ended.sentence)

    assert "no benchmark named 'vqa' to draw; give one of pope, " in refused("--bench", "vqa", "--out", "x")
    assert "0 questions cannot be drawn: give 1 to 100,000" in refused("--bench", "pope", "--out", "x", "--count", 0)
    assert "cannot be drawn" in refused("--bench", "pope", "--out", "x", "--count", 10**12)
    assert "give 8 to 2,048" in refused("--bench", "pope", "--out", "x", "--size", 10**6)
    assert "--bench" in refused("--out", "x")
    assert not Path("x").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    assert "holds other things" in refused("--bench", "pope", "--out", "full", "--force", "--count", 2)
    assert "cannot be written" in refused("--bench", "pope", "--out", "full/thesis.txt/below", "--count", 2)


def test_force_replaces_a_drawing(sightline: Callable[..., Any]) -> None:
    words = ("shapes", "--bench", "mme", "--out", "أشكال 🟥", "--count")
    assert sightline(*words, 8).code == 0
    assert "--force" in sightline(*words, 8).sentence
    assert sightline(*words, 8, "--force").code == 0
