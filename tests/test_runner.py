"""The one loop: what fails alone, what ends the run, and what a dead process leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import InputError, RunError
from sightline.runs import batch_size
from sightline.runs.ahead import TwoSteps
from sightline.runs.folder import Run
from sightline.runs.progress import Progress
from sightline.runs.records import Records, read_records
from sightline.runs.runner import Arrangement, Condition, Runner


@dataclass(frozen=True)
class Word:
    """An entry of some length."""

    id: str
    kind: str = ""


WORDS = [Word("a"), Word("bbb"), Word("cc"), Word("dddd", "other"), Word("eeeee")]


def echo(batch: Sequence[Word]) -> list[dict[str, Any]]:
    return [{"text": word.id} for word in batch]


def test_the_longest_go_first_and_kinds_do_not_mix() -> None:
    seen: list[list[str]] = []

    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        seen.append([word.id for word in batch])
        return echo(batch)

    run = Records()
    with Runner(run) as runner:
        runner.work(WORDS, [Condition("m", "none", attempt)], Arrangement(2, lambda w: len(w.id), lambda w: w.kind))
    assert seen == [["eeeee", "bbb"], ["cc", "a"], ["dddd"]]
    assert {record.id for record in run.all_records()} == {word.id for word in WORDS}


def test_progress_counts_what_was_there() -> None:
    run, told = Records(), []
    run.record("a", model="m", result={"text": "a"})
    with Runner(run, on_progress=told.append) as runner:
        runner.work(WORDS, [Condition("m", "none", echo, "words")], on_outcome=lambda *_: "good")
    assert told[0] == Progress("words", 1, 5)
    assert told[-1] == Progress("words", 5, 5, "good")
    assert [at.done for at in told] == [1, 2, 3, 4, 5]


def test_a_bad_entry_fails_alone() -> None:
    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        if any(word.id == "cc" for word in batch):
            raise ValueError("odd\nword")
        return echo(batch)

    run = Records()
    with Runner(run) as runner:
        runner.work(WORDS, [Condition("m", "none", attempt)], Arrangement(4))
    assert {record.id: record.error for record in run.all_records() if record.error} == {"cc": "ValueError: odd word"}


def test_the_next_batch_is_prepared_by_another_thread_and_no_batch_beyond_it() -> None:
    prepared: list[tuple[str, str]] = []
    begun = threading.Semaphore(0)

    def prepare(batch: Sequence[Word]) -> str:
        prepared.append((batch[0].id, threading.current_thread().name))
        begun.release()
        return batch[0].id.upper()

    def work(batch: Sequence[Word], made: str) -> list[dict[str, Any]]:
        assert begun.acquire(timeout=10)  # its own
        number = [word.id for word in WORDS].index(batch[0].id)
        if number < len(WORDS) - 1:
            assert begun.acquire(timeout=10)  # the next one's, while this one is at work
            begun.release()
        assert len(prepared) == min(number + 2, len(WORDS))
        return [{"text": made}]

    run = Records()
    with Runner(run) as runner:
        runner.work(WORDS, [Condition("m", "none", TwoSteps(prepare, work))])
    assert [record.result for record in run.records.values()] == [{"text": word.id.upper()} for word in WORDS]
    ahead = {word for word, name in prepared if name.startswith("sightline-ahead")}
    assert ahead == {"bbb", "cc", "dddd", "eeeee"}
    assert run.batch_size("m") == 1


def test_what_cannot_be_prepared_is_its_own_entry_s_error() -> None:
    def prepare(batch: Sequence[Word]) -> list[str]:
        if any(word.id == "cc" for word in batch):
            raise InputError("The picture is torn.")
        return [word.id for word in batch]

    run = Records()
    with Runner(run) as runner:
        attempt = TwoSteps(prepare, lambda batch, made: [{"text": each} for each in made])
        runner.work(WORDS, [Condition("m", "none", attempt)], Arrangement(2))
    assert {record.id: record.error for record in run.records.values() if record.error} == {
        "cc": "The picture is torn."
    }
    assert {record.id for record in run.records.values() if record.result == {"text": record.id}} == {
        "a", "bbb", "dddd", "eeeee"
    }  # fmt: skip


def test_what_was_prepared_for_too_large_a_batch_is_prepared_again_in_parts() -> None:
    sizes: list[int] = []

    def work(batch: Sequence[Word], made: list[str]) -> list[dict[str, Any]]:
        assert made == [word.id for word in batch]
        if len(batch) > 1:
            raise MemoryError
        sizes.append(len(batch))
        return echo(batch)

    run = Records()
    with Runner(run) as runner:
        attempt = TwoSteps(lambda batch: [word.id for word in batch], work)
        runner.work(WORDS, [Condition("m", "none", attempt)], Arrangement(2))
    assert sizes == [1] * 5
    assert run.batch_size("m") == 1


def test_stopped_while_the_next_is_prepared_it_keeps_what_is_done_and_leaves_no_thread(tmp_path: Path) -> None:
    def work(batch: Sequence[Word], made: Sequence[Word]) -> list[dict[str, Any]]:
        if batch[0].id == "cc":
            raise KeyboardInterrupt
        return echo(batch)

    def prepare(batch: Sequence[Word]) -> Sequence[Word]:
        time.sleep(0.02)
        return batch

    with Run.open(tmp_path / "run", "test", {}) as run, Runner(run) as runner, pytest.raises(KeyboardInterrupt):
        runner.work(WORDS, [Condition("m", "none", TwoSteps(prepare, work))])
    assert [record.id for record in read_records(tmp_path / "run")] == ["a", "bbb"]
    assert not any(thread.name.startswith("sightline-ahead") for thread in threading.enumerate())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        RunError("the disk is full"),
        type("AcceleratorError", (RuntimeError,), {})("CUDA error: device-side assert triggered"),
    ],
)
def test_errors_of_the_run_are_nobody_s_record(tmp_path: Path, error: Exception) -> None:
    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        if batch[0].id == "cc":
            raise error
        return echo(batch)

    with (
        Run.open(tmp_path / "run", "test", {}) as run,
        Runner(run) as runner,
        pytest.raises((RunError, type(error))) as found,
    ):
        runner.work(WORDS, [Condition("m", "none", attempt)])
    assert isinstance(found.value, RunError) == isinstance(error, OSError | RunError)
    assert {record.id: record.error for record in read_records(tmp_path / "run")} == {"a": None, "bbb": None}


def test_a_folder_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        if batch[0].id == "cc":
            shutil.rmtree(tmp_path / "run")
        return echo(batch)

    run = Run.open(tmp_path / "run", "test", {})
    with Runner(run) as runner, pytest.raises(RunError, match="the folder is gone"):
        runner.work(WORDS, [Condition("m", "none", attempt)])
    assert ("m", "none", "cc") not in run.records


def test_what_a_file_of_the_run_cannot_take_ends_it(tmp_path: Path) -> None:
    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "run" / "figures" / "a.png"))

    with (
        Run.open(tmp_path / "run", "test", {}) as run,
        Runner(run) as runner,
        pytest.raises(RunError, match="Permission denied"),
    ):
        runner.work(WORDS, [Condition("m", "none", attempt)])


def test_an_error_that_is_to_be_raised_is() -> None:
    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        raise InputError("no")

    run = Records()
    with Runner(run, raises=lambda error: isinstance(error, InputError)) as runner, pytest.raises(InputError):
        runner.work(WORDS, [Condition("m", "none", attempt)])
    assert run.records == {}


def _process(folder: Path, rank: int, dies_after: int | None) -> None:
    count = [0]

    def attempt(batch: Sequence[Word]) -> list[dict[str, Any]]:
        time.sleep(0.01)
        if count[0] == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1
        return echo(batch)

    entries = [Word(f"w{number}") for number in range(20)]
    with Run.open(folder, "test", {}, rank=rank) as run, Runner(run, world=2) as runner:
        runner.work(entries, [Condition("m", "none", attempt)])
        assert len(run.all_records()) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_dead_process_s_share_is_done_and_each_waits_for_all(tmp_path: Path) -> None:
    context = get_context("fork")
    processes = [context.Process(target=_process, args=(tmp_path / "run", *of)) for of in ((0, None), (1, 3))]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, -signal.SIGKILL]
    lines = [line for path in (tmp_path / "run").glob("samples*") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(f"w{number}" for number in range(20))


def test_a_container_s_bound_counts_as_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "CONTROL_GROUP", tmp_path)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    whole = batch_size.free_bytes("cpu")
    assert whole > 2**20
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    assert batch_size.free_bytes("cpu") == 2_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert batch_size.free_bytes("cpu") == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert batch_size.free_bytes("cpu") > 2_000_000
