"""What every pruning method leaves of the cost of an answer, beside what its geometry says: the theoretical share.

    python benchmarks/pruning_cost.py --pictures 1 --threads 1 --out FILE      640 positions, 576 of image
    python benchmarks/pruning_cost.py --pictures 5 --threads 1 --out FILE      2,944 positions, 2,880 of image

A LLaVA of random weights and the proportions of LLaVA-1.5-7B: heads of 128, an inner width of 2.69 times the hidden
one, CLIP ViT-L/14-336. It is as wide and deep as a processor takes in minutes; the theory is that of the same model:

    first    sum over the tower's layers and the decoder's of   P n + W n (n + 1) + head    n: the layer's positions
    later    sum over the decoder's layers of                   P + 2 W n       + head
    cache    sum over the decoder's layers of n

with P the matrix elements of a layer, W the widths of its heads together, all in multiplications. What
choosing costs is no part of it. `depth_32` is the theory of 32 layers of 4,096 and 24 of the tower, and `expected_32`
that multiplied by what was measured over theory here: what 32 layers would take if choosing and cutting weighed as
much beside a layer as they do here. A choice that is made once weighs less there.

All figures are processor seconds. Steps of decoding are the mean over those behind the first.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from common import GEOMETRY, TEXT_AFTER, TEXT_BEFORE, machine, write
from steering_speed import IMAGE_ID, PATCHES, llava

from sightline.methods.base import parse_spec
from sightline.methods.pruning import StagedPruning, StagedShares, kept_count
from sightline.models.transformers_api.generation import LogitsProcessorList
from sightline.probes.generation_cost import held_bytes

SPECS = {
    "fastv:K=2,R=0.75": 0.25,
    "fastervlm:r=0.75": 0.25,
    "divprune:keep=0.25": 0.25,
    "cdpruner:keep=0.25": 0.25,
    "visionzip:keep=0.25": 0.25,
    "pyramiddrop": None,
    "pyramiddrop:ahead=false": None,
    "sparsevlm": None,
}
"""Each with the share of image tokens that enter the decoder; None: all do."""

TOWER_INNER, TOWER_WIDTH, TOWER_DEPTH, DEPTH = 4096, 1024, 24, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--hidden-size", type=int, default=2048)
    parser.add_argument("--tower-layers", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--methods", nargs="+", default=list(SPECS))
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    model, inputs = model_and_prompt(options)
    times: dict[str, list[tuple[float, float, float]]] = {spec: [] for spec in ("none", *options.methods)}
    for number in range(-1, options.rounds):
        for spec in times:
            if number < 0 and spec != "none":
                continue  # the first run of all warms up what they share
            found = _timed(model, inputs, spec, options.new_tokens)
            if number >= 0:
                times[spec].append(found)
    medians = {spec: [statistics.median(of) for of in zip(*found, strict=True)] for spec, found in times.items()}
    document = {
        "benchmark": "pruning_cost",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "positions": int(inputs["input_ids"].shape[1]),
        "image_positions": options.pictures * PATCHES,
        "plain": dict(zip(("first", "later", "cache_bytes"), medians["none"], strict=True)),
        "methods": {spec: _row(spec, medians, options) for spec in options.methods},
    }
    document["worst_over_theory"] = {
        part: max(row[part]["over_theory"] for row in document["methods"].values()) for part in PARTS
    }
    write(document, options.out)


PARTS = ("first", "later", "cache")


def _row(spec: str, medians: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    here, deep = _theory(spec, options), _theory(spec, _deep(options))
    found: dict[str, Any] = {}
    for place, part in enumerate(PARTS):
        share = medians[spec][place] / medians["none"][place]
        over = share / here[place]
        found[part] = {
            "share": share,
            "theory": here[place],
            "over_theory": over,
            "depth_32": deep[place],
            "expected_32": deep[place] * over,
        }
    return found


def _deep(options: argparse.Namespace) -> argparse.Namespace:
    whole = {"layers": DEPTH, "hidden_size": GEOMETRY["hidden_size"], "tower_layers": TOWER_DEPTH}
    return argparse.Namespace(**{**vars(options), **whole})


def positions_of(spec: str, options: argparse.Namespace) -> list[int]:
    """How many positions each decoder layer runs on, the prompt alone."""
    image, text = options.pictures * PATCHES, TEXT_BEFORE + TEXT_AFTER
    method = parse_spec(spec)
    counts = [image] * options.layers
    if isinstance(method, StagedPruning):
        rules = method.stages(argparse.Namespace(layers=range(options.layers)))  # type: ignore[arg-type]
        shown = torch.ones(image, dtype=torch.bool)
        for first, rule in sorted(rules.items()):
            gone = shown & ~rule(torch.rand(image).masked_fill(~shown, -1), shown, image)
            shown = shown & ~gone
            if isinstance(method, StagedShares) and (recycle := method.recycler()) is not None and bool(gone.any()):
                back, _ = recycle(torch.rand(int(gone.sum()), 2), torch.rand(int(gone.sum())))
                shown[gone.nonzero()[back, 0]] = True
            counts[first:] = [int(shown.sum())] * (options.layers - first)
    elif SPECS.get(spec) is not None:
        counts = [options.pictures * kept_count(PATCHES, SPECS[spec])] * options.layers
    return [text + count for count in counts]


def _theory(spec: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """Shares of a plain run, see the module."""
    ours, plain = (_work(positions_of(of, options), options) for of in (spec, "none"))
    first, later, cache = (one / other for one, other in zip(ours, plain, strict=True))
    return first, later, cache


def _work(positions: Sequence[int], options: argparse.Namespace) -> tuple[float, float, float]:
    width = options.hidden_size
    inner = GEOMETRY["intermediate_size"] * width // GEOMETRY["hidden_size"]
    layer, head = 4 * width**2 + 3 * width * inner, width * GEOMETRY["vocab_size"]
    patches = PATCHES + 1
    tower = 4 * TOWER_WIDTH**2 + 2 * TOWER_WIDTH * TOWER_INNER
    seen = options.tower_layers * (tower * patches + 2 * TOWER_WIDTH * patches**2)
    seen += (TOWER_WIDTH * width + width**2) * PATCHES
    first = options.pictures * seen + sum(layer * n + width * n * (n + 1) for n in positions) + head
    later = sum(layer + 2 * width * (n + options.new_tokens / 2) for n in positions) + head
    return float(first), float(later), float(sum(n + options.new_tokens - 1 for n in positions))


def _timed(model: Any, inputs: dict[str, Any], spec: str, new_tokens: int) -> tuple[float, float, float]:
    """Processor seconds until the first token, of each later token, and bytes of the cache at the end."""
    marks: list[float] = []

    def mark(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        marks.append(time.process_time())
        return scores

    def generate() -> Any:
        processors = LogitsProcessorList([mark])
        with torch.no_grad():
            return model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                logits_processor=processors,
            )

    method = parse_spec(spec)
    begun = time.process_time()
    if method is None:
        output = generate()
    else:
        with method.on(model):
            output = generate()
    later = (marks[-1] - marks[0]) / (len(marks) - 1)
    return marks[0] - begun, later, float(held_bytes(output.past_key_values))


def model_and_prompt(options: argparse.Namespace) -> tuple[Any, dict[str, torch.Tensor]]:
    """The LLaVA of `steering_speed`, and a prompt of several pictures."""
    model = llava(options)
    text = torch.randint(10, 31000, (1, TEXT_BEFORE + TEXT_AFTER), generator=torch.Generator().manual_seed(1))
    image = torch.full((1, options.pictures * PATCHES), IMAGE_ID)
    ids = torch.cat([text[:, :TEXT_BEFORE], image, text[:, TEXT_BEFORE:]], 1).to(options.device)
    pixels = torch.randn(options.pictures, 3, 336, 336).to(options.device, getattr(torch, options.dtype))
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


if __name__ == "__main__":
    main()
