"""Peak memory while MDI is read, or under VAR, above that of the plain pass; each in a process of its own.

    python benchmarks/memory.py --lengths 4096 8192 16384 --out FILE

`--intermediate 64` narrows the MLP, whose own peak would otherwise hide what attention takes.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from typing import Any

import torch
from common import decoder, machine, prompt, write
from var_speed import METHOD

from sightline.attention import sink_tracker
from sightline.probes.dominance import Dominance

MODES = ("plain", "generated", "prompt", "all", "var")
"""Without anything, reading MDI over each set of query rows, and under VAR on every layer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--intermediate", type=int, default=64)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 8192, 16384])
    parser.add_argument("--one", nargs=2, metavar=("MODE", "LENGTH"), help=argparse.SUPPRESS)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.one:
        print(json.dumps({"peak": _peak(options, options.one[0], int(options.one[1]))}))
        return
    document: dict[str, Any] = {
        "benchmark": "memory",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name not in ("out", "one")},
        "lengths": {},
    }
    for length in options.lengths:
        peaks = {mode: _in_process(options, mode, length) for mode in MODES}
        square = 32 * length * length * torch.empty(0, dtype=getattr(torch, options.dtype)).element_size()
        document["lengths"][str(length)] = {
            "plain_bytes": peaks["plain"],
            "above_plain_bytes": {mode: peaks[mode] - peaks["plain"] for mode in MODES[1:]},
            "one_layers_square_bytes": square,
        }
        write(document, options.out)


def _in_process(options: argparse.Namespace, mode: str, length: int) -> int:
    command = [sys.executable, __file__, "--one", mode, str(length)]
    for name in ("device", "dtype", "layers", "intermediate"):
        command += [f"--{name}", str(getattr(options, name))]
    return int(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["peak"])


def _peak(options: argparse.Namespace, mode: str, length: int) -> int:
    """Peak bytes of the process (of the GPU's allocator on a GPU) over one prompt and two new tokens."""
    model = decoder(
        options.layers, getattr(torch, options.dtype), options.device, intermediate_size=options.intermediate
    )
    inputs, layout = prompt(length, options.device)
    with torch.no_grad():
        if mode == "plain":
            model.generate(**inputs, max_new_tokens=2, do_sample=False)
        elif mode == "var":
            sink_tracker.FIRST_LAYER = 0  # this model has no more than one
            with METHOD.on(model, layout):
                model.generate(**inputs, max_new_tokens=2, do_sample=False)
        else:
            with Dominance(queries=mode).on(model, layout=layout) as probe:  # type: ignore[arg-type]
                model.generate(**inputs, max_new_tokens=2, do_sample=False)
            probe.result()
    if options.device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
