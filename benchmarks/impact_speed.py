"""Time of whole impact maps for the last row, beside one plain forward pass and beside one pass for every edge.

    python benchmarks/impact_speed.py --layers 2 --out FILE           layers of a 7B model's geometry, 640 tokens
    python benchmarks/impact_speed.py --layers 32 --hidden-size 512   all layers of one, narrower
    python benchmarks/impact_speed.py --model tiny-llava              a bundled model, on its own prompt

Factors are times of a plain forward pass on the same prompt, logits of its last row alone. `least` is the work that a
map can't do without, in rows of a layer as shares of a plain pass: the clean pass and, per source, one row of each
layer (local) or of each layer from the cut on (causal), with the answer's logits. `carried` is the share of those rows
that were carried up: those that change no bit stay behind. The naive map is one forward pass for each layer and
source, timed on a sample of edges and scaled. `estimate` is the causal map's by gradient, without the exact cuts that
it is held against; how far it agrees with the whole exact map stands under `agreement`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from common import GEOMETRY, alternate, decoder, machine, medians, prompt, write

from sightline.attention import AttentionCall, Block, Edit, ForwardPass, attach, limit_block_bytes
from sightline.knockout.maps import causal_maps, local_maps
from sightline.knockout.reader import read_row
from sightline.knockout.rerun import Rerun
from sightline.models.anatomy import find_anatomy
from sightline.stats import rank_correlation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, default=GEOMETRY["hidden_size"])
    parser.add_argument("--length", type=int, default=640)
    parser.add_argument("--edges", type=int, default=4, help="edges of the naive map that are timed")
    parser.add_argument("--block-mb", type=int, default=64, help="memory that one block may take")
    parser.add_argument("--model", help="a bundled model instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model, inputs = _bundled(options) if options.model else _geometry(options)
    positions, layers = inputs["input_ids"].shape[1], len(find_anatomy(model).layers)
    groups = [(position,) for position in range(positions)]

    def plain() -> None:
        with torch.no_grad():
            model(**inputs, logits_to_keep=1)

    def local() -> Any:
        return local_maps(model, inputs, None, groups)

    maps: dict[str, Any] = {}

    def causal() -> Any:
        maps["exact"] = causal_maps(model, inputs, None, groups)

    def estimate() -> Any:
        with read_row(model, inputs) as reader:
            maps["estimated"] = reader.estimate(groups)

    runs: dict[str, Callable[[], Any]] = {
        "plain": plain,
        "local": local,
        "causal": causal,
        "estimate": estimate,
        "naive": _naive(model, inputs, options.edges),
    }
    with limit_block_bytes(options.block_mb * 2**20):
        with _rows_counted() as rows:
            causal()
        factors = medians(alternate(runs, options.rounds, options.device, options.warm_up), "plain")
    edges = layers * positions
    naive = {name: value / options.edges * edges for name, value in factors.pop("naive").items()}
    document = {
        "benchmark": "impact_speed",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "layers": layers,
        "positions": positions,
        "maps": factors,
        "least": _least(model, positions),
        "carried": sum(rows) / (positions * layers * (layers + 1) / 2 + layers * (layers + 1) / 2),
        "agreement": _agreement(maps),
        "bounds": {"local": 2.5, "causal": (layers / 2 + 4) * 1.5},
        "naive_scaled": {
            "edges": edges,
            "edges_timed": options.edges,
            "factor": naive["factor"],
            "seconds": naive["seconds"],
        },
        "times_faster_than_naive": {name: naive["factor"] / factors[name]["factor"] for name in ("local", "causal")},
    }
    write(document, options.out)


@contextmanager
def _rows_counted() -> Iterator[list[int]]:
    """Inside, the rows that every layer is given."""
    rows: list[int] = []
    run = Rerun.run

    def noted(self: Rerun, index: int, hidden: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        rows.append(int(hidden.shape[-3]))
        return run(self, index, hidden, *others, **named)

    try:
        Rerun.run = noted  # type: ignore[method-assign]
        yield rows
    finally:
        Rerun.run = run  # type: ignore[method-assign]


def _agreement(maps: dict[str, Any]) -> dict[str, float | None]:
    exact, estimated = (maps[name]["logprob"].double().numpy() for name in ("exact", "estimated"))
    known = np.isfinite(exact) & np.isfinite(estimated)
    largest = np.argsort(-np.abs(exact[known]))[: max(1, known.sum() // 20)]
    return {
        "edges": int(known.sum()),
        "rank_correlation": rank_correlation(exact[known], estimated[known]),
        "correlation": float(np.corrcoef(exact[known], estimated[known])[0, 1]),
        "correlation_of_the_largest_twentieth": float(
            np.corrcoef(exact[known][largest], estimated[known][largest])[0, 1]
        ),
    }


def _geometry(options: argparse.Namespace) -> tuple[Any, dict[str, torch.Tensor]]:
    share = options.hidden_size / GEOMETRY["hidden_size"]
    # The vocabulary shrinks along, so that the head keeps its share of the work.
    sizes = {name: max(1, int(GEOMETRY[name] * share)) for name in GEOMETRY}
    model = decoder(options.layers, getattr(torch, options.dtype), options.device, **sizes)
    inputs = prompt(options.length, options.device)[0]
    return model, inputs | {"input_ids": inputs["input_ids"] % sizes["vocab_size"]}


def _bundled(options: argparse.Namespace) -> tuple[Any, dict[str, torch.Tensor]]:
    from PIL import Image

    import sightline as sl

    vlm = sl.load(options.model, device=options.device, dtype=options.dtype)
    picture = Image.radial_gradient("L").convert("RGB")
    inputs = vlm.encode(sl.Sample(prompt="is there a red circle in the image ?", images=(picture,)))
    return vlm.model, dict(inputs)


class _Cut:
    """Hides one key from the last row of one layer, in a pass of the whole model."""

    def __init__(self, layer: int, position: int) -> None:
        self.layer, self.position = layer, position

    def begin(self, step: ForwardPass) -> None:
        """A pass starts."""

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """The edge is cut before the softmax."""
        if layer != self.layer:
            return None
        return Edit(torch.tensor([call.queries - 1], device=call.query.device), scores=self._hide)

    def _hide(self, block: Block) -> torch.Tensor:
        scores = block.values.clone()
        scores[..., self.position] = float("-inf")
        return scores


def _naive(model: Any, inputs: dict[str, torch.Tensor], edges: int) -> Callable[[], None]:
    anatomy = find_anatomy(model)
    positions = inputs["input_ids"].shape[1]

    def run() -> None:
        for edge in range(edges):
            cut = _Cut(edge * len(anatomy.layers) // edges, (edge + 1) * positions // (edges + 1))
            with attach(anatomy, editor=cut), torch.no_grad():
                model(**inputs, logits_to_keep=1)

    return run


def _least(model: Any, positions: int) -> dict[str, float]:
    """Multiplications of the maps over those of a plain pass; attention to keys counted, norms and softmax not."""
    anatomy = find_anatomy(model)
    weights = [sum(part.numel() for part in layer.parameters() if part.dim() > 1) for layer in anatomy.layers]
    width = anatomy.num_heads * anatomy.head_dim
    head = anatomy.head.weight.numel()
    plain_attention = 2 * width * positions * (positions + 1) // 2
    plain = sum(weights) * positions + len(weights) * plain_attention + head
    # A local row enters after its attention: the output projection and all behind it.
    attentions = [
        sum(part.numel() for part in attention.parameters() if part.dim() > 1) for attention in anatomy.attentions
    ]
    before = [
        all_of - attention.o_proj.weight.numel()
        for all_of, attention in zip(attentions, anatomy.attentions, strict=True)
    ]
    behind = sum(weights) - sum(before)
    local = behind * positions
    travelling = sum(positions * index * (weight + 2 * width * positions) for index, weight in enumerate(weights))
    causal = travelling + local + head * positions * len(weights)
    return {"local": 1 + local / plain, "causal": 1 + causal / plain}


if __name__ == "__main__":
    main()
