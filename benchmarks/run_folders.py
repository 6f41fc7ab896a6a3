"""A run folder of 100,000 lines: seconds until a continued run has read it, until a report of it stands, peak memory.

    python benchmarks/run_folders.py --out benchmarks/results/run_folders.json

The lines are those of `measure` on a model of 32 layers, which has ended and has its summary, of one that was stopped
just before its end, or of `eval`, stopped too; each figure is of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LAYERS = 32
SETTINGS: dict[str, Any] = {"models": ["m"], "data": "made", "queries": "generated", "seed": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--commands", nargs="+", default=["eval", "measure", "measure, stopped"])
    parser.add_argument("--one", nargs=3, metavar=("WHAT", "COMMAND", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(*options.one)))
        return
    from common import machine, write

    found: dict[str, Any] = {}
    for command in options.commands:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "run"
            fill(folder, command, options.lines)
            size = (folder / "samples.jsonl").stat().st_size
            found[command] = {"bytes": size} | {
                what: _in_process(what, command, folder) for what in ("resume", "report")
            }
            print(f"{command}: {found[command]}", file=sys.stderr, flush=True)
    document = {"benchmark": "run_folders", **machine("cpu"), "settings": {"lines": options.lines, "layers": LAYERS}}
    write({**document, "commands": found}, options.out)


def fill(folder: Path, command: str, lines: int) -> None:
    """Writes the folder of such a run."""
    from sightline.probes.dominance import LayerMass, SampleDominance, aggregate
    from sightline.runs.folder import Run
    from sightline.runs.records import Record, line_of

    name = command.partition(",")[0]
    run = Run.open(folder, name, SETTINGS | ({"bench": "shapes-pope"} if name == "eval" else {}))
    masses = {"text": 0.6123456789, "image": 0.3876543211, "text_sinks": 0.1234567891}
    layers = tuple(LayerMass(number, masses) for number in range(LAYERS))
    sample = SampleDominance("generated", 8, {"text": 61, "image": 576, "text_sinks": 1}, layers)
    results: dict[str, dict[str, Any]] = {
        "measure": {"text": "a red circle", "dominance": sample.to_dict()},
        "eval": {"response": "Yes, there is a red circle.", "question": "0123456789abcdef", "tokens": 9},
    }
    with run:
        if command == "measure":
            run.finish(aggregate([sample] * 2, model="m").to_dict())
    with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
        line = line_of(Record("sample-NUMBER", "m", "none", results[name], None, 0.25))
        for number in range(lines):
            file.write(line.replace("NUMBER", f"{number:06}"))


def _in_process(what: str, command: str, folder: Path) -> dict[str, float]:
    words = [sys.executable, __file__, "--one", what, command, str(folder)]
    found: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


def _one(what: str, command: str, place: str) -> dict[str, float]:
    from sightline.jobs.report import report
    from sightline.runs.folder import Run

    folder = Path(place)
    before = _peak()
    begun, processor = time.monotonic(), time.process_time()
    if what == "resume":
        name = command.partition(",")[0]
        settings = SETTINGS | ({"bench": "shapes-pope"} if name == "eval" else {})
        with Run.open(folder, name, settings) as run:
            assert len(run.done_ids("m")) == len(run.records)
    else:
        report(folder)
    return {
        "seconds": round(time.monotonic() - begun, 2),
        "processor_seconds": round(time.process_time() - processor, 2),
        "peak_bytes_above_start": _peak() - before,
    }


def _peak() -> int:
    """The most bytes that this program has held; what the system counts for a process begins with its parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
