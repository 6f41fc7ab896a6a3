"""sightline eval: killed at any moment, on a full disk, with answers of any kind, nothing is lost or doubled."""

from __future__ import annotations

import errno
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fast_model
import pytest

import toy_bench
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.running_score import RunningScore
from sightline.models.vlm import VLM
from sightline.runs.batches import Outcome
from sightline.runs.records import Records, read_records
from sightline.runs.runner import Condition

METHODS = ("--method", "none", "--method", "nothing:strength=0.25")


@pytest.fixture(autouse=True)
def toy(idle: str) -> Iterator[None]:
    with toy_bench.registered():
        yield


def questions(path: Path, count: int) -> Path:
    lines = [{"id": f"q{number}", "prompt": f"question {number}", "truth": "yes"} for number in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def written(folder: Path) -> Counter[tuple[str, str]]:
    """How many whole lines there are by method and id, over all files."""
    lines = [line for path in folder.glob("samples*.jsonl") for line in path.read_bytes().split(b"\n")[:-1]]
    return Counter((told["method"], told["id"]) for told in map(json.loads, lines))


def require_all(folder: Path, count: int) -> None:
    """Every item once a method, with its own answer."""
    wanted = {(method, f"q{number}"): 1 for method in METHODS[1::2] for number in range(count)}
    assert written(folder) == wanted
    for record in read_records(folder):
        assert record.result is not None
        assert record.result["response"] == f"answer to question {record.id[1:]}"


def test_killed_twenty_times_it_loses_and_doubles_nothing(tmp_path: Path) -> None:
    count, rng, folder = 60, random.Random(0), tmp_path / "run"
    words = ["eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', count)}", *METHODS]
    words += ["--out", str(folder), "--batch-size", "3"]
    known: Counter[tuple[str, str]] = Counter()
    kills = 0
    while kills < 20:
        process = fast_model.start(words)
        if kills % 2:  # half of them at work for sure, the others wherever they are
            until = time.monotonic() + 20
            while written(folder) == known and process.is_alive() and time.monotonic() < until:
                time.sleep(0.001)
        time.sleep(rng.random() * 0.02)
        process.kill()
        process.join()
        kills += 1
        now = written(folder)
        assert all(now[key] == 1 for key in now)
        assert known <= now
        known = now
    assert known
    process = fast_model.start(words)
    process.join(60)
    assert process.exitcode == 0
    require_all(folder, count)
    assert json.loads((folder / "summary.json").read_text())["methods"]["none"]["n"] == count


@pytest.mark.parametrize(
    "response", ["", "\0yes\0", "نعم، هناك دائرة", "yes 🟥👩‍👩‍👧", "\ud800 lone", "a\r\nb\u2028c\x1b[31m", "x" * 10**6]
)
def test_answers_of_any_kind_are_kept(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, response: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sightline.jobs.models.load_model",
        lambda *_: fast_model.FastModel(said=response),
    )
    words = ("eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', 3)}", *METHODS, "--out", "run")
    document = sightline(*words, "--batch-size", 2, "--json").document
    assert document["methods"]["none"]["n"] == 3
    assert {record.result["response"] for record in read_records("run") if record.result} == {response.strip()}
    assert len(read_records("run")) == 6
    assert sightline(*words).code == 0


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(
    sightline: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.jobs.models.load_model", lambda *_: fast_model.FastModel(0))
    words = ("eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', 10)}", *METHODS)
    words = (*words, "--out", "run", "--batch-size", 3)
    synchronise, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        synchronise(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = sightline(*words)
    assert ended.code == 1
    assert "the disk is full" in ended.sentence
    assert 0 < len(read_records("run")) < 20
    assert sightline(*words).code == 0
    require_all(Path("run"), 10)


def test_stopped_from_the_keyboard_it_says_how_to_go_on(
    sightline: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.jobs.models.load_model", lambda *_: fast_model.FastModel(0))
    words = ("eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', 6)}", *METHODS)
    words = (*words, "--out", "run", "--batch-size", 2)
    answer, calls = fast_model.FastModel.generate_tokens, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return answer(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fast_model.FastModel, "generate_tokens", interrupted)
        ended = sightline(*words)
    assert ended.code == 1
    assert "4 answers are in run" in ended.sentence
    assert sightline(*words).code == 0
    require_all(Path("run"), 6)


def test_a_scorer_that_fails_meanwhile_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    items = find_items(toy_bench.Toy(), limit=1)
    score = RunningScore(items, Records(), "m", "official")
    monkeypatch.setattr(toy_bench.Toy, "score", lambda *_: 1 / 0)
    outcome = Outcome(items.items[0].id, 0.1, {"response": "yes"})
    assert score.after(Condition("m", "none", lambda batch: []), outcome) == ""


def test_a_model_that_answers_nothing_of_use_is_scored(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VLM, "generate_tokens", lambda self, inputs, **_: [[2]] * len(inputs["input_ids"]))
    document = sightline("eval", tiny, "--bench", "toy", "--limit", 2, "--out", "run", "--json").document
    assert document["methods"]["none"] | {"accuracy": 0.0, "unparsed": 2, "n": 2} == document["methods"]["none"]
