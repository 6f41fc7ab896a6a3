"""Killed at any moment, again and again, a run loses nothing, does nothing twice, and changes nothing.

Two kills a command here; benchmarks/killed.py makes twenty, of `eval` and of two processes too, as tests/cli do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.killing import kill_often, results, start
from support.tiny_llava import save_tiny

KILLS = 2
COUNT = 8
"""Samples of a run; those of `sinks` are run twice."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A loaded model of two layers."""
    from sightline.models.vlm import load

    return load(str(save_tiny(tmp_path_factory.mktemp("killed") / "tiny")))


def commands(folder: Path, name: str, count: int) -> dict[str, tuple[object, ...]]:
    """Each command that keeps samples, on so many."""
    picture = folder / "picture.png"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(picture)
    prompts = {"images": [picture.name], "settings": {"mode": "local", "layers": [0]}}
    prompts["prompts"] = [{"id": f"p{number}", "prompt": "Is there a red circle?"} for number in range(count)]
    (folder / "prompts.yaml").write_text(json.dumps(prompts))
    shapes = ("--data", "shapes", "--limit", count, "--batch-size", 1)  # padding moves the last digits
    return {
        "measure": ("measure", name, *shapes, "--new-tokens", 2, "--maps", 1),
        "eval": ("eval", name, "--bench", "shapes-pope", "--limit", count, "--batch-size", 2),
        "eval on 2 processes": ("eval", name, "--bench", "shapes-pope", "--limit", 2 * count, "--batch-size", 2),
        "sinks": ("sinks", name, *shapes, "--tau", 3),
        "impact": ("impact", name, "--config", folder / "prompts.yaml"),
    }


def killed(folder: Path, vlm: Any, command: str, kills: int, count: int) -> dict[str, int]:
    """The damage to a command's run; it must have found what it finds when nobody kills it."""
    words = commands(folder, vlm.name, count)[command]
    world = 2 if "2 processes" in command else 1

    def begin() -> Sequence[BaseProcess]:
        return [start((*words, "--out", folder / "run"), vlm, rank, world) for rank in range(world)]

    damage = kill_often(begin, folder / "run", kills)
    alone = start((*words, "--out", folder / "alone"), vlm)
    alone.join(120)
    assert alone.exitcode == 0
    assert results(folder / "run") == results(folder / "alone")
    assert (folder / "run" / "summary.json").exists()
    return damage.to_dict()


@pytest.mark.parametrize("command", ["measure", "sinks", "impact"])
def test_nothing_is_lost_done_twice_or_changed(tiny: Any, tmp_path: Path, command: str) -> None:
    damage = killed(tmp_path, tiny, command, KILLS, COUNT)
    assert (damage["lost"], damage["doubled"], damage["changed"]) == (0, 0, 0)
    assert damage["lines"] >= COUNT


def training(name: str, steps: int) -> tuple[object, ...]:
    """A training of so many steps, each of which is kept."""
    few = ("--data", "shapes", "--limit", 8, "--batch-size", 2, "--no-eval", "--seed", 4)
    settings = ("save_steps=1", "log_steps=1", "layers=all")
    return ("train", name, *few, "--steps", steps, *(word for each in settings for word in ("--set", each)))


def killed_training(folder: Path, vlm: Any, kills: int, count: int) -> dict[str, int]:
    """As `killed`; what may not change are the log and the weights that come of it."""
    words = training(vlm.name, count)
    run, alone = folder / "run", folder / "alone"

    def step() -> int:
        return max((int(place.name.split("-")[1]) for place in run.glob("checkpoints/checkpoint-*")), default=0)

    damage = kill_often(lambda: [start((*words, "--out", run, "--resume"), vlm)], run, kills, step)
    start((*words, "--out", alone), vlm).join(240)
    logs = [[json.loads(line) for line in (each / "log.jsonl").read_bytes().splitlines()] for each in (run, alone)]
    seen = [[(line["step"], line.get("loss")) for line in log] for log in logs]
    weights = [(each / "model.safetensors").read_bytes() for each in (run, alone)]
    steps_of = [step for step, loss in seen[0] if loss is not None]
    found = damage.to_dict() | {"lines": len(steps_of), "doubled": len(steps_of) - len(set(steps_of))}
    return found | {
        "lost": count - len(set(steps_of)),
        "changed": int(seen[0] != seen[1]) + int(weights[0] != weights[1]),
    }


def test_a_training_ends_with_the_same_weights(tiny: Any, tmp_path: Path) -> None:
    damage = killed_training(tmp_path, tiny, KILLS, 4)
    assert (damage["lost"], damage["doubled"], damage["changed"]) == (0, 0, 0)


ALL = {
    **{name: partial(killed, command=name) for name in ("measure", "eval", "eval on 2 processes", "sinks", "impact")},
    "train": killed_training,
}
