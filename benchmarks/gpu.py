"""What Sightline adds on one GPU: all parts within eight minutes, each in a process of its own, as one JSON.

    python benchmarks/gpu.py --out FILE              32 layers of 7B geometry, random weights made in memory
    python benchmarks/gpu.py --small --out FILE      the same parts as small as they get, on a processor

The document is written after every part. One that fails, takes longer than it may or lacks a package says so in its
place and loses nothing of the others; what it had written by then is kept. Parts that the time leaves no room for are
named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import machine, write

FOLDER = Path(__file__).parent
SECONDS = 480
NEEDS = {"--quantize": "bitsandbytes", "--lora": "peft", "flash_attention_2": "flash_attn"}
"""By word of a part's options, the package that it takes."""

SLACK = 4
"""A processor that others use too may take so many times a part's seconds."""


@dataclass(frozen=True)
class Part:
    """One script with options. seconds: that it may take. small: options in the place of `whole`, to try it."""

    name: str
    script: str
    seconds: float
    whole: str
    small: str


PARTS = (
    Part(
        "token_cost",
        "token_cost",
        75,
        "--rounds 5 --specs dominance grounding var vaf pai:gamma=1 pai vcd",
        "--rounds 1 --few 2 --many 4 --specs dominance vaf",
    ),
    Part(
        "dominance",
        "dominance_speed",
        75,
        "--layers 32 --lengths 640 2880 --rounds 3 --samples 100 --without-eager",
        "--dtype float32 --layers 2 --hidden-size 256 --lengths 80 --rounds 1 --samples 2",
    ),
    Part(
        "dominance_4bit",
        "dominance_speed",
        55,
        "--layers 32 --lengths 640 --rounds 3 --samples 20 --without-eager --quantize 4bit",
        "--dtype float32 --layers 1 --hidden-size 256 --lengths 80 --rounds 1 --without-eager --quantize 4bit",
    ),
    Part(
        "dominance_flash",
        "dominance_speed",
        45,
        "--layers 32 --lengths 640 2880 --rounds 3 --without-eager --attention flash_attention_2",
        "--layers 1 --hidden-size 256 --lengths 80 --rounds 1 --without-eager --attention flash_attention_2",
    ),
    Part(
        "steering",
        "steering_speed",
        75,
        "--dtype bfloat16 --layers 32 --tower-layers 24 --rounds 2",
        "--layers 2 --hidden-size 256 --tower-layers 1 --new-tokens 2 --rounds 1 --methods vaf vcd",
    ),
    Part(
        "grounding",
        "grounding_speed",
        30,
        "--dtype bfloat16 --layers 4 --rounds 3",
        "--layers 1 --hidden-size 256 --length 80 --rounds 1",
    ),
    Part(
        "qlora",
        "grounding_speed",
        55,
        "--dtype bfloat16 --layers 32 --scored last4 --quantize 4bit --lora 16 --checkpointing --rounds 3",
        "--layers 2 --hidden-size 256 --length 80 --scored last1 --lora 4 --checkpointing --rounds 1",
    ),
    Part(
        "impact",
        "impact_speed",
        40,
        "--dtype bfloat16 --layers 32 --rounds 2 --edges 1",
        "--layers 2 --hidden-size 256 --length 80 --rounds 1 --edges 1",
    ),
    Part("measuring", "measuring", 30, "--limit 50", "--limit 3 --side 64"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="as small as they get, on a processor")
    parser.add_argument("--device", help="cuda, with --small cpu, unless another is named")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS])
    parser.add_argument("--out")
    options = parser.parse_args()
    device = options.device or ("cpu" if options.small else "cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here: give --small to try the script, or --device.")
    chosen = [part for part in PARTS if options.parts is None or part.name in options.parts]
    document: dict[str, Any] = {"benchmark": "gpu", **machine(device), "device": device, "small": options.small}
    document["parts"] = {}
    end = time.monotonic() + SECONDS
    for part in chosen:
        document["parts"][part.name] = done = result_of(part, device, options.small, end - time.monotonic())
        print(f"{part.name}: {done['state']} in {done['seconds']:.0f} s {done.get('why', '')}", file=sys.stderr)
        if options.out:
            Path(options.out).write_text(json.dumps(document, indent=1) + "\n")
    write(document, options.out)


def result_of(part: Part, device: str, is_small: bool, left: float) -> dict[str, Any]:
    """How the part ended ("done", "failed", "over time" or "left out"), why, and what it wrote.

    left: seconds until all must be over; a part gets no more than that.
    """
    given = (part.small if is_small else part.whole).split()
    missing = [package for word, package in NEEDS.items() if word in given and not _is_there(package)]
    if missing or left < 1:
        why = f"{missing[0]} is not installed" if missing else "no time was left"
        return {"state": "left out", "why": why, "seconds": 0.0}
    limit, start = min(part.seconds * (SLACK if is_small else 1), left), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        written, log = Path(folder, "result.json"), Path(folder, "log")
        command = [sys.executable, str(FOLDER / f"{part.script}.py"), "--device", device, *given, "--out", str(written)]
        with log.open("wb") as output:
            state = _state(command, output, limit)
        ended: dict[str, Any] = {"state": state, "seconds": time.monotonic() - start, "options": " ".join(given)}
        if state == "failed":
            lines = log.read_text(errors="replace").strip().splitlines()
            ended["why"] = lines[-1][:400] if lines else "without a word"
        if state == "over time":
            ended["why"] = f"stopped after {limit:g} s"
        return ended | {"result": _read(written)}


def _state(command: list[str], output: Any, limit: float) -> str:
    try:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=limit)
    except subprocess.TimeoutExpired:
        return "over time"
    return "failed" if ended.returncode else "done"


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _read(path: Path) -> Any:
    """What the part wrote, whole or up to where it was stopped; None without any."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
