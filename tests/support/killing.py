"""Commands in processes of their own that are killed (SIGKILL) at any moment and begun again, and what that did.

A process is forked from this one, which has imported everything and holds the model, so that it is at work at once.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

PATIENCE = 60.0
"""Seconds that a process has to write a line, or to end."""

Lines = dict[tuple[str, ...], bytes]


@dataclass
class Damage:
    """What kills did to the lines of a run: lines that vanished, that stand there twice, and whose bytes changed."""

    kills: int = 0
    lines: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0

    def to_dict(self) -> dict[str, int]:
        """For a benchmark's document."""
        return asdict(self)

    @property
    def is_none(self) -> bool:
        """Whether nothing was damaged."""
        return not (self.lost or self.doubled or self.changed)


def start(words: Sequence[object], vlm: Any = None, rank: int = 0, world: int = 1) -> BaseProcess:
    """The command line in a process of its own, one of `world` that share a run. vlm: instead of the named model."""
    process = get_context("fork").Process(target=_run, args=(list(map(str, words)), vlm, rank, world))
    process.start()
    return process


def _run(words: list[str], vlm: Any, rank: int, world: int) -> None:
    import sightline.jobs.models as models
    import sightline.pages.impact_figures as figures
    from sightline.cli.main import cli

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    if vlm is not None:
        models.load_model = lambda *_: vlm
    figures.save_figures = lambda *_: []  # they are drawn when all is kept, and take most of the time
    try:
        cli.main(words, standalone_mode=False)
    except SystemExit as end:
        os._exit(int(end.code or 0))


def written(folder: Path) -> tuple[Lines, Counter[tuple[str, ...]]]:
    """The whole lines of a run by model, method and id, and how often each stands there."""
    lines: Lines = {}
    counts: Counter[tuple[str, ...]] = Counter()
    for path in sorted(folder.glob("samples*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            told = json.loads(line)
            key = (told["model"], told["method"], told["id"])
            lines[key] = line
            counts[key] += 1
    return lines, counts


def kill_often(
    begin: Callable[[], Sequence[BaseProcess]], folder: Path, kills: int, reached: Callable[[], int] | None = None
) -> Damage:
    """Begins a run and kills it, again and again: every other time when it has come a little further, else anywhere.

    begin: starts the processes that share the run. reached: how far it has come, by default its whole lines. At last it
    runs to its end.
    """
    rng, damage, known = Random(0), Damage(), Lines()
    far = reached or (lambda: len(written(folder)[0]))
    for number in range(kills):
        processes = begin()
        if number % 2:
            _wait_beyond(far() + rng.randrange(2), far, processes)
        time.sleep(rng.random() * 0.03)
        for process in processes:
            process.kill()
            time.sleep(rng.random() * 0.01 * (len(processes) > 1))
        for process in processes:
            process.join()
        damage.kills += 1
        known = _compared(folder, known, damage)
    last = begin()
    for process in last:
        process.join(PATIENCE)
        assert process.exitcode == 0, f"the last run ended with {process.exitcode}"
    damage.lines = len(_compared(folder, known, damage))
    return damage


def _wait_beyond(place: int, far: Callable[[], int], processes: Sequence[BaseProcess]) -> None:
    until = time.monotonic() + PATIENCE
    while far() <= place and any(map(BaseProcess.is_alive, processes)) and time.monotonic() < until:
        time.sleep(0.002)


def _compared(folder: Path, known: Lines, damage: Damage) -> Lines:
    lines, counts = written(folder)
    damage.lost += len(known.keys() - lines.keys())
    damage.changed += sum(lines[key] != line for key, line in known.items() if key in lines)
    damage.doubled += sum(count > 1 for count in counts.values())
    return lines


def results(folder: Path) -> dict[tuple[str, ...], Any]:
    """What a run found, by model, method and id: the same however often it was killed."""
    return {
        key: json.loads(line).get("result", json.loads(line).get("error")) for key, line in written(folder)[0].items()
    }
