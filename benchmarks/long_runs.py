"""Memory and open files over a long run: after so many samples, those of the process.

    python benchmarks/long_runs.py --out benchmarks/results/long_runs.json

`measure` and `eval` run on a random model of two layers, loaded once, into run folders.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

from common import machine, write


def main() -> None:
    import torch

    import sightline as sl
    from support.tiny_llava import save_tiny

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        folder, count = Path(place), options.samples
        vlm = sl.load(str(save_tiny(folder / "tiny")))

        def measure(watch: Any) -> Any:
            given = {"new_tokens": 2, "maps": 0, "limit": count, "out": folder / "m"}
            return sl.measure(vlm, "shapes", on_progress=watch, **given)

        def evaluate(watch: Any) -> Any:
            given = {"limit": count, "batch_size": 4, "new_tokens": 2, "out": folder / "e"}
            return sl.evaluate(vlm, "shapes-pope", on_progress=watch, **given)

        for name, job in {"measure": measure, "eval": evaluate}.items():
            found[name] = watched(job, count)
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    write({"benchmark": "long_runs", **machine("cpu"), "settings": {"samples": count}, "commands": found}, options.out)


def watched(job: Callable[[Any], Any], count: int) -> dict[str, Any]:
    """Bytes and open files each tenth of a job; the growth is of the second half, when all caches are warm."""
    seen: list[dict[str, int]] = []
    due = [count * tenth // 10 for tenth in range(1, 11)]

    def watch(at: Any) -> None:
        while due and at.done >= due[0]:
            due.pop(0)
            gc.collect()
            files = sum(1 for _ in Path("/proc/self/fd").iterdir())
            seen.append({"samples": at.done, "bytes": _resident(), "files": files})

    job(watch)
    half = seen[len(seen) // 2 - 1]
    bytes_more, samples_more = (seen[-1][name] - half[name] for name in ("bytes", "samples"))
    return {
        "each_tenth": seen,
        "bytes_per_sample_in_the_second_half": bytes_more / samples_more,
        "more_files_in_the_second_half": seen[-1]["files"] - half["files"],
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
