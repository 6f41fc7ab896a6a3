"""Runs that are killed (SIGKILL) twenty times: how many lines were lost, doubled or changed.

    python benchmarks/killed.py --out benchmarks/results/killed.json

Each command works on a random model of two layers; at last it runs to its end, and must have found what it finds when
nobody kills it. For `train` the lines are steps of its log, and what may not change are these and the weights.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

from common import machine, write


def main() -> None:
    import torch

    from support.tiny_llava import save_tiny
    from test_killed import ALL

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--samples", type=int, default=60, help="of a run; steps of a training are a third")
    parser.add_argument("--commands", nargs="+", default=list(ALL), choices=list(ALL))
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        from sightline.models.vlm import load

        vlm = load(str(save_tiny(Path(place) / "tiny")))
        for command in options.commands:
            folder = Path(place) / command.replace(" ", "-")
            folder.mkdir()
            begun = time.monotonic()
            count = options.samples // 3 if command == "train" else options.samples
            found[command] = ALL[command](folder, vlm, kills=options.kills, count=count)
            print(f"{command}: {found[command]}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    document = {
        "benchmark": "killed",
        **machine("cpu"),
        "settings": {"kills": options.kills, "samples": options.samples},
    }
    write({**document, "commands": found}, options.out)


if __name__ == "__main__":
    main()
