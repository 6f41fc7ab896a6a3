"""Time of `measure` over many pictures: one by one, and in the batches that it chooses by itself.

    python benchmarks/measuring.py --limit 200 --out FILE

The pictures are files of the size given, as a user's are; each round measures all of them with every batch size, on a
model that is loaded once. `difference` is the largest between the figures of a batch size and those one by one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from common import machine, write

import sightline as sl
from sightline.zoo import shapes_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llava")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--side", type=int, default=640, help="pixels of a picture's side")
    parser.add_argument("--maps", type=int, default=0, help="samples whose maps are kept")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out")
    options = parser.parse_args()
    vlm = sl.load(options.model, device=options.device, dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        samples = _samples(options.limit, options.side, Path(folder))
        runs: dict[str, dict[str, Any]] = {}
        sl.measure(vlm, samples[:2], maps=0)
        for size in (1, "auto") * options.rounds:
            clock, processor = time.perf_counter(), time.process_time()
            found = sl.measure(vlm, samples, batch_size=size, maps=options.maps)
            spent = {"seconds": time.perf_counter() - clock, "processor_seconds": time.process_time() - processor}
            known = runs.setdefault(str(size), {"runs": [], "batch_size": found.to_dict()["batch_size"]})
            known["runs"].append(spent)
            known["mdi"] = [layer["mdi"] for layer in found.to_dict()["layers"]]
    one = runs["1"]["mdi"]
    for known in runs.values():
        known["difference"] = max(abs(a - b) for a, b in zip(known.pop("mdi"), one, strict=True))
        for name in ("seconds", "processor_seconds"):
            known[name] = min(each[name] for each in known["runs"])
    document = {
        "benchmark": "measuring",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "sizes": runs,
        "times_faster": {name: runs["1"][name] / runs["auto"][name] for name in ("seconds", "processor_seconds")},
    }
    write(document, options.out)


def _samples(count: int, side: int, folder: Path) -> list[Any]:
    """The bundled scenes, enlarged, as JPEG files."""
    found = []
    for number, fields in enumerate(shapes_samples(count)):
        place = folder / f"{number}.jpg"
        fields["image"].resize((side, side)).save(place, quality=90)
        found.append(sl.Sample(prompt=fields["prompt"], image=place, id=fields["id"]))
    return found


if __name__ == "__main__":
    main()
