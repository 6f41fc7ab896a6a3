"""The table that stands in docs/benchmarks.md: what a reading, a cut or a method costs with Sightline and with others.

    python benchmarks/peers.py                 all of it, into benchmarks/results/peers.json and the page
    python benchmarks/peers.py --tasks vcd pai --lengths 640
    python benchmarks/peers.py --table         only writes the page

In an environment of its own, see peers-requirements.txt. Every length is one process on one thread in which the plain
run and the peers' take turns on the same weights, task by task: given is the processor time as a multiple of the plain
run of the same round, and the most memory held above what the plain run holds. A peer that is not installed, or that
fails, says so. Further rounds join those that are there.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from common import GEOMETRY, decoder, machine, narrowed, peak_bytes, prompt
from peer_runs import (
    Case,
    Run,
    change,
    cut_pass,
    eager_measuring,
    hook_measuring,
    lens_measuring,
    nnsight_measuring,
    peer_knockout,
    plain_generation,
    plain_pass,
    sightline_knockout,
    sightline_map,
    sightline_measuring,
)
from peer_steering import mitigv_steering, sightline_steering
from peers_table import write_page
from steering_speed import PATCHES, llava, picture_prompt

import sightline as sl

RESULTS = Path(__file__).parent / "results" / "peers.json"
PACKAGES = ("nnsight", "transformer-lens", "mitigv")
DECODING, STEERING = ("measuring", "knockout", "map"), ("vcd", "pai")
"""Tasks of a decoder, and of a model that sees."""

SMALL = 256
"""Hidden size of the model on which everything runs once before it is timed."""


def _edge(peer: str, case: Case) -> Run:
    return cut_pass(case, peer, [case.layers // 2])


def _knockout(peer: str, case: Case) -> Run:
    return peer_knockout(case, peer)


TASKS: dict[str, dict[str, Callable[[Case], Run]]] = {
    "measuring": {
        "plain": plain_generation,
        "sightline": sightline_measuring,
        "eager": eager_measuring,
        "hook": hook_measuring,
        "nnsight": nnsight_measuring,
        "transformer-lens": lens_measuring,
    },
    "knockout": {
        "plain": plain_pass,
        "sightline": sightline_knockout,
        **{peer: partial(_knockout, peer) for peer in ("hook", "nnsight", "transformer-lens")},
    },
    "map": {
        "plain": plain_pass,
        "sightline": sightline_map,
        **{peer: partial(_edge, peer) for peer in ("hook", "nnsight", "transformer-lens")},
    },
    "vcd": {
        "plain": plain_generation,
        "sightline": lambda case: sightline_steering(case, sl.VCD()),
        "mitigv": lambda case: mitigv_steering(case, "vcd", distortion="as_sightline"),
    },
    "pai": {
        "plain": plain_generation,
        "sightline": lambda case: sightline_steering(case, sl.PAI(first_layer=0)),
        # On SDPA, which hands it no mask, its PAI lets every row see those behind it.
        "mitigv": lambda case: mitigv_steering(case, "pai", "eager", start_layer=0),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--lengths", nargs="+", type=int, default=[640, 2500])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, help="of the decoder; by default 2, and 1 above 1,000 positions")
    parser.add_argument("--hidden-size", type=int, help="narrower than a 7B model, to try the script")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--table", action="store_true", help="only write the page")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.here:
        for task in options.tasks:
            keep(options, task, options.lengths[0])
        return
    if not options.table:
        for length in options.lengths:
            for kind in (DECODING, STEERING):
                in_process(options, [task for task in options.tasks if task in kind], length)
    if options.out == RESULTS:
        write_page(json.loads(RESULTS.read_text()))


def in_process(options: argparse.Namespace, tasks: list[str], length: int) -> None:
    """Measure these tasks, which share a model, in a process of their own."""
    if not tasks:
        return
    command = [
        sys.executable,
        __file__,
        "--here",
        "--tasks",
        *tasks,
        "--lengths",
        str(length),
        "--out",
        str(options.out),
    ]
    for name in ("rounds", "layers", "hidden_size", "new_tokens"):
        if getattr(options, name) is not None:
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if subprocess.run(command, env=environment).returncode:
        print(f"{', '.join(tasks)} at {length}: not all of them ended", file=sys.stderr)


def keep(options: argparse.Namespace, task: str, length: int) -> None:
    """Measure a cell and write it down; further rounds of one that is there with these settings join its own."""
    path = options.out
    document = json.loads(path.read_text()) if path.exists() else {"benchmark": "peers", "cells": {}}
    there = document["cells"].setdefault(task, {}).get(str(length))
    first = len(there["loads"]) if there and there["settings"] == settings_of(options, length) else 0
    found = cell(options, task, length, first)
    document["cells"][task][str(length)] = joined(there, found) if first else found
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{task} at {length}: done", file=sys.stderr)


def settings_of(options: argparse.Namespace, length: int) -> dict[str, Any]:
    """What two rounds of a cell must have alike."""
    return {
        "layers": options.layers or (1 if length > 1000 else 2),
        "hidden_size": options.hidden_size or GEOMETRY["hidden_size"],
        "new_tokens": options.new_tokens,
    }


def joined(there: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A cell with the rounds of both."""
    for name, peer in there["peers"].items():
        if name in more["peers"]:
            for each in ("processor_seconds", "factors", "peak_bytes"):
                more["peers"][name][each] = peer[each] + more["peers"][name][each]
    return more | {"loads": there["loads"] + more["loads"]}


def cell(options: argparse.Namespace, task: str, length: int, first: int) -> dict[str, Any]:
    """All peers at one task and length, in turns. first: number of the first round."""
    settings = settings_of(options, length)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with torch.no_grad():
        failed: dict[str, str] = {}
        for name, make in TASKS[task].items():
            try:  # everything once on a small model: imports and what is made but once
                make(case_of(task, 128, 2, SMALL, 2))()
            except ModuleNotFoundError as error:
                failed[name] = f"{error.name} is not installed"
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        case = case_of(task, length, **settings)
        runs = {name: make(case) for name, make in TASKS[task].items() if name not in failed}
        taken, peaks, loads, found = alternated(runs, range(first, first + options.rounds))
    edges = case.length * case.layers if task == "map" else None
    return {
        **{name: value for name, value in machine("cpu").items() if name != "load"},
        "loads": loads,
        "versions": {name: _version(name) for name in PACKAGES},
        "settings": settings,
        "positions": case.length,
        "edges": edges,
        "failed": failed,
        "peers": {
            name: {
                "processor_seconds": taken[name],
                "factors": factors(taken[name], taken["plain"], edges if name not in ("plain", "sightline") else None),
                "peak_bytes": peaks[name],
                **agreement(task, name, found, case),
            }
            for name in runs
        },
    }


def case_of(task: str, length: int, layers: int, hidden_size: int, new_tokens: int) -> Case:
    """The model and the prompt of a task, about as long as asked for: pictures come in whole."""
    return Case(*_model_and_prompt(task in STEERING, length, layers, hidden_size), new_tokens, length // 2)


@lru_cache(2)
def _model_and_prompt(is_steered: bool, length: int, layers: int, hidden_size: int) -> tuple[Any, ...]:
    """With one pass done, after which the process holds what every pass takes."""
    layout = None
    if is_steered:
        images = max(1, length // PATCHES)
        text = max(0, length - images * PATCHES)
        before, after = (35, 29) if images == 1 else (text // 2, text - text // 2)
        sizes = {"layers": layers, "hidden_size": hidden_size, "tower_layers": 2}
        model = llava(argparse.Namespace(**sizes, dtype="float32", device="cpu"))
        inputs = picture_prompt(torch.float32, "cpu", images, before, after)
    else:
        model = decoder(layers, torch.float32, "cpu", **narrowed(hidden_size))
        inputs, layout = prompt(length, "cpu")
    model(**inputs, logits_to_keep=1)
    return model, inputs, layout


def alternated(
    runs: dict[str, Run], rounds: range
) -> tuple[dict[str, list[float]], dict[str, list[int]], list[float], dict[str, Any]]:
    """By run and round: seconds of processor time, and the most bytes held above those before; loads; what it found."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, list[int]] = {name: [] for name in runs}
    loads: list[float] = []
    found: dict[str, Any] = {}
    names = list(runs)
    for number in rounds:
        turn = number % len(names)
        loads.append(round(os.getloadavg()[0], 1))
        for name in names[turn:] + names[:turn]:
            gc.collect()
            with peak_bytes("cpu") as peak:
                start = time.process_time()
                found[name] = runs[name]()
                taken[name].append(time.process_time() - start)
            peaks[name] += peak
    return taken, peaks, loads, found


def factors(ours: list[float], plain: list[float], edges: int | None) -> list[float]:
    """By round the multiple of the plain run; of a map that was timed on one edge, a clean pass and every edge."""
    shares = [mine / base for mine, base in zip(ours, plain, strict=True)]
    return shares if edges is None else [1 + edges * share for share in shares]


def agreement(task: str, name: str, found: dict[str, Any], case: Case) -> dict[str, float]:
    """How far a peer's figures are from Sightline's: the largest difference, or the share of tokens that are alike."""
    if name in ("plain", "sightline"):
        return {}
    ours, theirs = found["sightline"], found[name]
    if task in ("vcd", "pai"):
        return {"tokens_alike": float((ours == theirs).float().mean())}
    if task == "map":
        ours, theirs = ours[case.layers // 2, case.hidden], change(found["plain"], theirs)
    return {"largest_difference": float((ours - theirs).abs().max())}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
