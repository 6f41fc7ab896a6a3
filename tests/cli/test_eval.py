"""sightline eval: what it prints; what it asks and scores is `tests/jobs/test_evaluate.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import toy_bench
from sightline.models.vlm import VLM
from support.runs import lines_of, write_lines

PAI = "pai:alpha=4,first_layer=0"
TWO = ("--method", "none", "--method", PAI)


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    with toy_bench.registered():
        yield


@pytest.fixture
def items(picture: Path) -> Path:
    """Three questions."""
    lines = [
        {"id": f"q{number}", "prompt": "Is there a red circle?", "images": [picture.name], "truth": "yes"}
        for number in range(3)
    ]
    return write_lines(picture.parent / "items.jsonl", lines)


def test_the_tables_and_the_files(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    write_lines(items, [*lines_of(items), {"id": "q3"}])  # the last cannot be read
    words = ("eval", tiny, "--bench", f"toy:{items}", *TWO, "--out", "run")
    document = sightline(*words, "--json").document
    assert json.loads(Path("run/summary.json").read_text()) == document
    shown = sightline(*words)
    for word in ("4 items", "accuracy", "95% interval", "unparsed", "failed", "s/item", "Against none", "sign-flip p"):
        assert word in shown.out
    assert "Item q3 failed under none" in shown.err
    assert "samples.jsonl" in shown.err
    assert all(path.name in shown.err for path in Path("run").glob("table.*")), "every table is named"


def test_several_benchmarks_are_several_tables(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    ended = sightline("eval", tiny, "--bench", f"toy:{items}", "--bench", "shapes-chair", "--limit", 2, "--out", "run")
    assert ended.out.count("official parser") == 2
    assert "official parser; smaller is better" in ended.out, "of CHAIR"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "pai:first_layer=7"), "7"),
        (("--method", "pai"), "2"),  # from layer 2 on, and the model has layers 0 and 1
        (("--method", "none", "--method", "var:dims=99"), "99"),
        (("--method", "var"), "sink dimensions"),
        (("--method", "vra"), "no method named 'vra'"),
        (("--method", "none", "--method", "none"), "name each once"),
        (("--method", PAI, "--method", PAI + ",gamma=1.1"), "are the same"),
        (("--bench", "tyo"), "no benchmark named 'tyo'"),
        (("--bench", "toy:"), "names no place"),
        (("--synonyms", "list.txt"), "takes no synonyms"),
        (("--batch-size", "0"), "neither auto nor"),
        (("--sinks", "none.json"), "none.json"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    sightline: Callable[..., Any],
    tiny: Path,
    items: Path,
    words: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(VLM, "generate_tokens", lambda *_, **__: pytest.fail("an item was asked"))
    ended = sightline("eval", tiny, "--bench", f"toy:{items}", "--out", "run", *words)
    assert ended.code == 2
    assert told in ended.sentence
    assert not Path("run").exists()


def test_a_prompt_of_several_lines(
    sightline: Callable[..., Any], tiny: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("sightline.jobs.evaluate.evaluate", lambda *_, **options: given.append(options) or 1 / 0)
    sightline("eval", tiny, "--bench", f"toy:{items}", "--prompt", "{question}\\nyes or no?")
    assert given[0]["template"] == "{question}\nyes or no?"
