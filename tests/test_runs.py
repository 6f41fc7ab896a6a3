"""Run folders: nothing lost, nothing counted twice, whatever byte the process died at."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.cli.training_file import require_writable
from sightline.errors import InputError, SightlineError, SightlineWarning
from sightline.files.json import is_device, write_atomically
from sightline.runs.folder import Run, fresh_folder
from sightline.runs.processes import launched_as, shard
from sightline.runs.records import Record, line_of, read_records
from sightline.runs.stored import DamagedLine, StoredResult, line_outline

SETTINGS = {"model": "tiny-llava", "queries": "generated", "new_tokens": 20}


def open_run(folder: Path, **changes: Any) -> Run:
    options = {name: changes.pop(name) for name in ("rank", "retry_failed", "info") if name in changes}
    return Run.open(folder, changes.pop("command", "measure"), SETTINGS | changes, **options)


def fill(folder: Path, ids: list[str]) -> None:
    """What a command does: record each sample that is not done; names that begin with bad- fail."""
    with open_run(folder) as run:
        done = run.done_ids()
        for name in ids:
            if name in done:
                continue
            if name.startswith("bad-"):
                run.record(name, error="the image does not exist")
            else:
                run.record(name, result={"text": f"words of {name} ü", "mdi": [1.5, None]}, seconds=0.25)
        run.finish({"samples": len([record for record in run.all_records() if record.error is None])})


def test_a_run_says_what_was_asked(tmp_path: Path) -> None:
    fill(tmp_path / "deep" / "run", ["a", "bad-b"])
    about = json.loads((tmp_path / "deep" / "run" / "run.json").read_text())
    assert about["command"] == "measure"
    assert about["settings"] == SETTINGS
    libraries = {name for name in ("torch", "transformers") if find_spec(name) is not None}
    assert {"python", "sightline", *libraries} <= about["versions"].keys()
    lines = [json.loads(line) for line in (tmp_path / "deep" / "run" / "samples.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", "bad-b"]
    assert "error" not in lines[0]
    assert "result" not in lines[1]
    assert lines[0]["seconds"] == 0.25
    assert json.loads((tmp_path / "deep" / "run" / "summary.json").read_text()) == {"samples": 1}


def test_cut_at_every_byte_the_run_ends_the_same(tmp_path: Path) -> None:
    ids = ["a", "bad-b", "c"]
    fill(tmp_path, ids)
    samples, summary = tmp_path / "samples.jsonl", tmp_path / "summary.json"
    whole, told = samples.read_bytes(), summary.read_bytes()
    for size in range(len(whole) + 1):
        samples.write_bytes(whole[:size])
        kept = whole[:size].count(b"\n")
        assert [record.id for record in read_records(tmp_path)] == ids[:kept]
        fill(tmp_path, ids)
        assert samples.read_bytes() == whole
        assert summary.read_bytes() == told


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.booleans(), st.integers(0, 2)), max_size=12), st.binary(max_size=20)
)
def test_every_sample_counts_once(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, bool, int]], torn: bytes
) -> None:
    folder = tmp_path_factory.mktemp("run")
    expected: dict[str, bool] = {}
    for name, is_good, rank in written:
        with open_run(folder, rank=rank, retry_failed=True) as run:
            run.record(name, **({"result": {"rank": rank}} if is_good else {"error": "no"}))
        expected[name] = expected.get(name, False) or is_good
        with (folder / ("samples.jsonl" if rank == 0 else f"samples.{rank}.jsonl")).open("ab") as file:
            file.write(torn.replace(b"\n", b""))
    records = read_records(folder)
    assert {record.id: record.error is None for record in records} == expected
    assert len(records) == len(expected)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 5))
def test_shares_are_equal_and_whole(items: list[int], world: int) -> None:
    shares = [shard(items, rank, world) for rank in range(world)]
    assert sorted(item for share in shares for item in share) == sorted(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_killed_at_work_the_run_continues(tmp_path: Path) -> None:
    script = (
        "import sys, itertools; from sightline.runs.folder import Run\n"
        f"with Run.open({str(tmp_path)!r}, 'measure', {SETTINGS!r}) as run:\n"
        "    for number in itertools.count():\n"
        "        run.record(f'sample-{number}', result={'text': 'x' * 5000}); print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    with open_run(tmp_path) as run:
        done = run.done_ids()
        assert {f"sample-{number}" for number in range(last + 1)} <= done
        run.record("next", result={})
    assert len(read_records(tmp_path)) == len(done) + 1


def test_failed_samples_are_done_again_only_when_asked(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "bad-b"])
    with open_run(tmp_path) as run:
        assert run.done_ids() == {"a", "bad-b"}
    with open_run(tmp_path, retry_failed=True) as run:
        assert run.done_ids() == {"a"}
        run.record("bad-b", error="still not there")
    assert {record.id: record.error for record in read_records(tmp_path)} == {"a": None, "bad-b": "still not there"}
    with open_run(tmp_path, retry_failed=True) as run:
        run.record("bad-b", result={"mdi": 1.0})
        run.record("bad-b", error="too late")
    assert {record.id: record.error for record in read_records(tmp_path)} == {"a": None, "bad-b": None}


def test_models_and_methods_are_told_apart(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.record("a", model="one", result={})
        run.record("a", model="one", method="var", result={})
        assert run.done_ids("one") == run.done_ids("one", "var") == {"a"}
        assert run.done_ids("two") == set()
        assert len(run.all_records()) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"queries": "all"}, 'queries = "generated", not "all"'),
        ({"new_tokens": 21}, "new_tokens = 20, not 21"),
        ({"extra": 1}, "extra = null, not 1"),
        ({"extra": ["x" * 400]}, "holds a run with other extra: give the same extra"),
        ({"command": "eval"}, "run of `measure`, not of `eval`"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    fill(tmp_path, ["a"])
    with pytest.raises(InputError) as caught:
        open_run(tmp_path, **changes)
    assert words in str(caught.value)


def test_of_settings_within_settings_the_one_that_differs_is_named(tmp_path: Path) -> None:
    with open_run(tmp_path, study={"mode": "causal", "window": 1}) as run:
        run.record("a", result={})
    for study, words in (
        ({"mode": "causal", "window": 9}, "a run with window = 1, not 9: give the same window to continue it"),
        ({"mode": "causal", "window": 1, "among": "other"}, 'a run with among = null, not "other"'),
        ({"window": 1}, 'a run with mode = "causal", not null'),
    ):
        with pytest.raises(InputError, match=words):
            open_run(tmp_path, study=study)


def test_commands_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sightline.runs.folder.time.strftime", lambda *_: "now")
    for name in ("a-now", "a-now-2", "a-now-3"):
        folder = fresh_folder("a")
        assert folder == Path("runs") / name
        folder.mkdir(parents=True)


def test_a_setting_known_late_is_held_to(tmp_path: Path) -> None:
    for _ in range(2):
        with open_run(tmp_path) as run:
            run.pin("revision of tiny-llava", "abc")
    with open_run(tmp_path) as run, pytest.raises(InputError, match=r'revision of tiny-llava = "abc", not "def"'):
        run.pin("revision of tiny-llava", "def")


def test_what_is_only_told_may_differ(tmp_path: Path) -> None:
    open_run(tmp_path, info={"device": "cpu"}).__exit__(None, None, None)
    with open_run(tmp_path, info={"device": "cuda:0"}) as run:
        assert run.records == {}


def test_a_run_that_failed_before_its_first_sample_leaves_nothing(tmp_path: Path) -> None:
    def fail(**changes: Any) -> None:
        with pytest.raises(InputError, match="no such model"), open_run(tmp_path / "run", **changes):
            raise InputError("There is no such model.")

    fail()
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    fail(model="other")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]
    fill(tmp_path / "run", ["a"])
    fail()
    assert len(read_records(tmp_path / "run")) == 1


def test_folders_that_cannot_be_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(InputError, match="run folder"):
            open_run(tmp_path / folder)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "samples.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"no run\.json"):
        open_run(tmp_path / "odd")
    (tmp_path / "odd" / "run.json").write_text('{"command": ')
    with pytest.raises(InputError, match="cannot be read"):
        open_run(tmp_path / "odd")


def test_an_unwritable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="cannot be written"):
        open_run(tmp_path)


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(InputError, match="another process"):
        open_run(tmp_path)
    with open_run(tmp_path), open_run(tmp_path, rank=1):
        pass
    opened = f"run = Run.open({str(tmp_path)!r}, 'measure', {SETTINGS!r})"
    script = f"from sightline.runs.folder import Run; {opened}; print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(InputError, match="another process"):
            open_run(tmp_path)
        process.kill()
        process.wait()
    open_run(tmp_path).__exit__(None, None, None)


def test_the_summary_of_this_time_is_told_from_an_older_one(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        assert not run.is_summed_up
        with run.alone():
            run.finish({})
        assert run.is_summed_up
    os.utime(tmp_path / "summary.json", (1, 1))
    with open_run(tmp_path) as run:
        assert not run.is_summed_up


class FullDisk:
    """A file on a disk with room for so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = self.file.write(content[: self.room])
        self.room -= count
        return count


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_keeps_what_was_written(tmp_path: Path, room: int) -> None:
    with open_run(tmp_path) as run:
        run.record("a", result={"mdi": 1.0})
        size = (tmp_path / "samples.jsonl").stat().st_size
        run._file = FullDisk(run._file, room)
        with pytest.raises(SightlineError, match="the disk is full; 1 samples are kept") as caught:
            run.record("b", result={"mdi": 2.0})
        assert not isinstance(caught.value, InputError)
    assert (tmp_path / "samples.jsonl").stat().st_size == size
    assert [record.id for record in read_records(tmp_path)] == ["a"]


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, ["a"])
    with open_run(tmp_path) as run:
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(SightlineError, match="the disk is full"):
            run.finish({"samples": 2})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"samples": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.log", "samples.jsonl", "summary.json"]


def test_a_device_and_a_link_are_written_to_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", "words")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "words\n"
    (tmp_path / "null").symlink_to(os.devnull)
    monkeypatch.setattr(Path, "replace", lambda *_: pytest.fail("the device would be gone"))
    write_atomically(tmp_path / "null", "words")
    assert is_device(tmp_path / "null")
    with pytest.raises(InputError, match="no file but a device"):
        require_writable(tmp_path / "null", [], force=True)


def test_numbers_are_plain_and_nan_is_null(tmp_path: Path) -> None:
    import numpy as np
    import torch

    with open_run(tmp_path) as run:
        run.record(
            "a", result={"mdi": float("nan"), "x": np.float64("inf"), "n": np.int64(3), "t": torch.tensor([1.0, 2.0])}
        )
        run.record("\ud800", result={"text": "\udfff ok"})
    line = (tmp_path / "samples.jsonl").read_bytes().splitlines()[0]
    assert json.loads(line)["result"] == {"mdi": None, "x": None, "n": 3, "t": [1.0, 2.0]}
    assert b"NaN" not in line
    assert len(read_records(tmp_path)) == 2


def test_damaged_lines_are_done_again(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b", "c"])
    first, _, last = (tmp_path / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "samples.jsonl").write_bytes(first + b"\0" * 40 + b"\n" + b'{"other": 1}\n' + b"17\n" + last)
    assert [record.id for record in read_records(tmp_path)] == ["a", "c"]
    fill(tmp_path, ["a", "b", "c"])
    assert sorted(record.id for record in read_records(tmp_path)) == ["a", "b", "c"]


def test_a_record_is_a_result_or_an_error(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        for wrong in ({}, {"result": {}, "error": "e"}):
            with pytest.raises(ValueError, match="either"):
                run.record("a", **wrong)
        assert run.record("a", result={}) == Record("a", result={})


def test_the_launcher_tells_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert launched_as() == (0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched_as() == (2, 4)


def test_the_log_says_who_when_with_which_settings_and_what_failed(tmp_path: Path) -> None:
    with Run.open(tmp_path, "measure", {"seed": 3}) as run:
        run.record("a", model="m", error="The image \x1b[2J.png does not exist.")
        warnings.warn("Two settings have no effect.", SightlineWarning, stacklevel=1)
        logging.getLogger("sightline").warning("of no run")
    with pytest.raises(InputError, match="seed = 3"), Run.open(tmp_path, "measure", {"seed": 4}):
        pass
    with pytest.raises(KeyboardInterrupt), Run.open(tmp_path, "measure", {"seed": 3}):
        raise KeyboardInterrupt
    lines = (tmp_path / "run.log").read_text().splitlines()
    form = re.compile(r"\d{4}-\d\d-\d\dT[\d:]{8}[+-]\d{4} process \d+ (?:INFO|WARNING|ERROR) (.*)")
    words = [form.fullmatch(line)[1] for line in lines]  # type: ignore[index]
    assert re.fullmatch(r"measure begun by \S+ on \S+, rank 0", words[0])
    assert words[1] == 'settings {"seed": 3}'
    assert words[2] == r"a failed under none on m: The image \x1b[2J.png does not exist."
    assert words[3:5] == ["Two settings have no effect.", "of no run"]
    assert lines[5].endswith("INFO ended, 1 records are here")
    assert "measure continued, 1 records are here, by " in lines[6]
    assert "ended by KeyboardInterrupt" in lines[-1]


def test_two_runs_at_once_keep_logs_of_their_own(tmp_path: Path) -> None:
    before = list(logging.getLogger("sightline").handlers)
    with Run.open(tmp_path / "a", "eval", {}) as one, Run.open(tmp_path / "b", "eval", {}) as other:
        one.record("of a", error="broken")
        other.record("of b", error="broken")
    logs = {name: (tmp_path / name / "run.log").read_text() for name in "ab"}
    assert all(f"of {name}" in log and f"of {'ba'['ab'.index(name)]}" not in log for name, log in logs.items())
    assert logging.getLogger("sightline").handlers == before


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "run.log").mkdir()
    with Run.open(tmp_path, "measure", {}) as run:
        run.record("a", result={"mdi": 1.0})
    assert [record.id for record in read_records(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": 3, "result": {}}',
        b'{"id": "a", "result": []}',
        b'{"id": "a", "result": {}, "seconds": "long"}',
        b'{"id": "a", "result": {}, "error": "both"}',
        b'{"id": "a", "error": {"no": "words"}}',
        b'{"id": "a"}',
        b'{"id": "a", "result": {}, "more": 1}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b"null",
    ],
)
def test_lines_that_no_run_writes_are_passed_over(tmp_path: Path, line: bytes) -> None:
    fill(tmp_path, ["whole"])
    with (tmp_path / "samples.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert [record.id for record in read_records(tmp_path)] == ["whole"]


@pytest.mark.parametrize("changed", [{"settings": []}, {"info": 3}, {"command": None}, {"versions": "new"}])
def test_a_description_of_another_kind_is_damage(tmp_path: Path, changed: dict[str, Any]) -> None:
    fill(tmp_path, ["a"])
    about = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(about | changed))
    with pytest.raises(InputError, match="cannot be read as a run's description: the folder is damaged"):
        open_run(tmp_path)


def test_long_results_stay_on_disk_and_read_the_same(tmp_path: Path) -> None:
    long = {"layers": [{"layer": layer, "mdi": 1.5} for layer in range(200)], "text": "ü" * 300}
    with open_run(tmp_path) as run:
        kept = run.record("long", result=long, model="m")
        short = run.record("short", result={"text": "yes"}, model="m")
        assert isinstance(kept.result, StoredResult)
        assert isinstance(short.result, dict)
        assert kept.result == long
        assert dict(kept.result) | {"more": 1} == {**long, "more": 1}
        assert run.record("long", result={"other": 1}, model="m") is kept
    again = {record.id: record for record in read_records(tmp_path)}
    assert again["long"].result == long
    assert again["long"] == kept
    assert json.loads(line_of(again["long"])) == json.loads((tmp_path / "samples.jsonl").read_text().splitlines()[0])
    (tmp_path / "samples.jsonl").write_text("other\n" * 900)
    with pytest.raises(DamagedLine, match="was changed while it was read"):
        read_again(again["long"])["text"]


@pytest.mark.parametrize("name", ["a", 'q"u\\o\nte{[', "ü犬\ud800", "x" * 2000, '", "seconds": 1}'])
def test_the_outline_of_a_line_is_what_its_whole_says(tmp_path: Path, name: str) -> None:
    result = {"text": 'a "{[" \\ b', "layers": [{"layer": layer, "mdi": 1.5} for layer in range(99)]}
    line = line_of(Record(name, "m\\", "vcd", result, None, 1e-05)).encode("utf-8", "surrogatepass")
    whole = json.loads(line)
    assert line_outline(line) in (whole | {"result": {}}, None)
    (tmp_path / "samples.jsonl").write_bytes(line)
    (record,) = read_records(tmp_path)
    assert isinstance(record.result, StoredResult)
    assert (record.id, record.model, record.method, dict(record.result)) == (name, "m\\", "vcd", result)
    assert record.result.get("maps") is None


def test_long_lines_that_are_damaged_are_done_again(tmp_path: Path) -> None:
    line = line_of(Record("a", "m", "none", {"layers": [{"mdi": 1.5}] * 200}, None, 0.25)).encode()
    assert line_outline(line) is not None
    others = (line[:-9] + line, line.replace(b"]", b"", 1), b"\0" * 2000 + b"\n")
    cut = (line[:1000] + b"\0" * (len(line) - 1001) + b"\n", line[:1700] + b"\n", line[9:], line[:-20] + b"9}\n")
    (tmp_path / "samples.jsonl").write_bytes(b"".join(each for each in (*others, *cut)))
    assert read_records(tmp_path) == []


def read_again(record: Record) -> Any:
    """The result as nobody has looked at it yet."""
    StoredResult._latest = None
    return record.result


@pytest.mark.parametrize("torn", ["", "x", "x" * 70_000])
def test_lines_end_where_the_last_whole_one_does(tmp_path: Path, torn: str) -> None:
    fill(tmp_path, ["a", "b"])
    whole = (tmp_path / "samples.jsonl").read_bytes()
    (tmp_path / "samples.jsonl").write_bytes(whole + torn.encode())
    with open_run(tmp_path):
        pass
    assert (tmp_path / "samples.jsonl").read_bytes() == whole
