"""Many processes share an evaluation: none does another's item, and a lost one loses only what it had not finished."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import sightline as sl
import toy_bench
from sightline.runs.claims import Claims
from sightline.runs.folder import Run
from sightline.runs.records import read_records
from support import fast_model
from support.runs import write_lines


def launch(words: list[str]) -> None:
    """What torchrun does, but for starting Python anew: two processes, the second of which dies at its fourth item."""
    settings = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="fork", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    elastic_launch(settings, run_and_die)(words)


def run_and_die(words: list[str]) -> None:
    record, count = Run.record, [0]

    def lines_of_the_other(folder: Path) -> int:
        path = folder / "samples.1.jsonl"
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    def dying(self: Any, *arguments: Any, **options: Any) -> Any:
        if os.environ["RANK"] == "1" and count[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ["RANK"] == "0" and count[0] == 3:  # however slow the other one is, it has its share to die on
            while lines_of_the_other(self.folder) < 3:
                time.sleep(0.01)
        count[0] += 1
        return record(self, *arguments, **options)

    Run.record = dying  # type: ignore[method-assign]
    fast_model.run(words, seconds=0.002)


def questions(path: Path, count: int) -> Path:
    return write_lines(
        path, [{"id": f"q{number}", "prompt": f"question {number}", "truth": "yes"} for number in range(count)]
    )


def ids_in(folder: Path) -> Counter[str]:
    """How many lines each item has, over all files."""
    lines = [line for path in folder.glob("samples*.jsonl") for line in path.read_text().splitlines()]
    return Counter(json.loads(line)["id"] for line in lines)


def test_a_claim_is_one_process_s_and_ends_with_it(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from sightline.runs.claims import Claims\n"
        f"claims = Claims(Path({str(tmp_path)!r}))\n"
        "claims.take(('m', 'none', 'a')); claims.take(('m', 'none', 'b')); claims.give_back(('m', 'none', 'b'))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdin=-1, stdout=-1) as process, Claims(tmp_path) as claims:
        assert process.stdout is not None
        process.stdout.readline()
        assert not claims.take(("m", "none", "a"))
        assert claims.take(("m", "none", "b"))
        assert claims.take(("m", "none", "c"))
        process.kill()
        process.wait()
        assert claims.take(("m", "none", "a"))


def test_processes_share_the_items_and_do_none_twice(tmp_path: Path) -> None:
    count, folder = 48, tmp_path / "run"
    words = ["eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', count)}"]
    words += ["--out", str(folder), "--batch-size", "2"]
    slow = fast_model.start(words, 0, 2, seconds=0.05)
    quick = fast_model.start(words, 1, 2, seconds=0.002)
    for process in (slow, quick):
        process.join(30)
        assert process.exitcode == 0
    assert ids_in(folder) == {f"q{number}": 1 for number in range(count)}
    shares = [len((folder / name).read_text().splitlines()) for name in ("samples.jsonl", "samples.1.jsonl")]
    assert shares[1] > shares[0] > 0  # the quick one took over items of the slow one
    assert json.loads((folder / "summary.json").read_text())["methods"]["none"]["n"] == count


def test_lost_processes_lose_nothing_whatever_number_goes_on(tmp_path: Path) -> None:
    count, folder, rng = 60, tmp_path / "run", random.Random(1)
    words = ["eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', count)}"]
    words += ["--out", str(folder), "--batch-size", "2"]
    for world in (2, 3, 2):
        processes = [fast_model.start(words, rank, world, seconds=0.01, most=8) for rank in range(world)]
        until = time.monotonic() + 20
        before = ids_in(folder).total()
        while ids_in(folder).total() < before + 6 and time.monotonic() < until:
            time.sleep(0.002)
        for process in processes:
            time.sleep(rng.random() * 0.02)
            process.kill()
        for process in processes:
            process.join()
        assert max(ids_in(folder).values()) == 1
    assert ids_in(folder).total() < count
    assert not (folder / "summary.json").exists()
    survivors = [fast_model.start(words, rank, 3) for rank in range(3)]
    time.sleep(0.05)
    survivors[2].kill()  # the others take over what it had
    for process in survivors:
        process.join(30)
    assert ids_in(folder) == {f"q{number}": 1 for number in range(count)}
    assert json.loads((folder / "summary.json").read_text())["methods"]["none"]["n"] == count


def test_failed_items_are_tried_again_by_one_process(tmp_path: Path) -> None:
    items, folder = questions(tmp_path / "items.jsonl", 6), tmp_path / "run"
    items.write_text(items.read_text().replace("question 3", " "))  # an empty prompt cannot be asked
    words = ["eval", "fast", "--bench", f"toy:{items}", "--out", str(folder)]
    for _ in range(2):
        processes = [fast_model.start([*words, "--retry-failed"], rank, 2) for rank in range(2)]
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
    assert 2 <= ids_in(folder)["q3"] <= 4
    assert sum(ids_in(folder).values()) - ids_in(folder)["q3"] == 5


@pytest.mark.slow
def test_launched_by_torchrun_and_one_killed_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.jobs.models.load_model", lambda *_: fast_model.FastModel())
    words = ["eval", "fast", "--bench", f"toy:{questions(tmp_path / 'items.jsonl', 12)}", "--batch-size", "2"]
    launcher = get_context("fork").Process(target=launch, args=([*words, "--out", str(tmp_path / "shared")],))
    launcher.start()
    launcher.join(120)
    assert launcher.exitcode != 0
    kept = {record.key: record for record in read_records(tmp_path / "shared")}
    assert 3 <= len(kept) <= 12
    assert len((tmp_path / "shared" / "samples.1.jsonl").read_text().splitlines()) == 3
    with toy_bench.registered():
        alone, merged = (
            sl.evaluate("fast", f"toy:{tmp_path / 'items.jsonl'}", batch_size=2, out=tmp_path / out).to_dict()
            for out in ("alone", "shared")
        )
    answers = [
        {record.id: record.result and record.result["response"] for record in read_records(tmp_path / folder)}
        for folder in ("alone", "shared")
    ]
    assert answers[0] == answers[1]
    for document in (alone, merged):
        del document["answers"], document["methods"]["none"]["seconds_per_item"]
    assert alone == merged
    assert ids_in(tmp_path / "shared").total() == 12
    assert {key: record for key, record in kept.items() if record not in read_records(tmp_path / "shared")} == {}
