"""sl.evaluate on a full disk and with answers of any kind: nothing is lost, doubled or changed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
import toy_bench
from sightline.runs.records import read_records
from support.fast_model import FastModel
from support.runs import lines_of, write_lines


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sightline.jobs.models.load_model", lambda *_: FastModel())
    with toy_bench.registered():
        yield


def evaluated(count: int, idle: str, **fields: Any) -> dict[str, Any]:
    """The document of an evaluation of so many questions under two methods, in the folder `run`."""
    questions = [{"id": f"q{number}", "prompt": f"question {number}", "truth": "yes"} for number in range(count)]
    write_lines(Path("items.jsonl"), questions)
    return sl.evaluate("fast", "toy:items.jsonl", ["none", idle], out="run", **fields).to_dict()


@pytest.mark.parametrize(
    "response", ["", "\0yes\0", "نعم، هناك دائرة", "yes 🟥👩‍👩‍👧", "\ud800 lone", "a\r\nb\u2028c\x1b[31m", "x" * 10**6]
)
def test_answers_of_any_kind_are_kept(idle: str, response: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.jobs.models.load_model", lambda *_: FastModel(said=response))
    assert evaluated(3, idle, batch_size=2)["methods"]["none"]["n"] == 3
    assert {record.result["response"] for record in read_records("run") if record.result} == {response.strip()}
    assert len(read_records("run")) == 6
    assert evaluated(3, idle)["methods"]["none"]["n"] == 3


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(idle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronise, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        synchronise(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(sl.SightlineError, match="the disk is full"):
            evaluated(10, idle, batch_size=3)
    assert 0 < len(read_records("run")) < 20
    evaluated(10, idle, batch_size=3)
    written = [(line["method"], line["id"], line["result"]["response"]) for line in lines_of(Path("run"))]
    wanted = [(name, f"q{number}", f"answer to question {number}") for name in ("none", idle) for number in range(10)]
    assert sorted(written) == sorted(wanted)
