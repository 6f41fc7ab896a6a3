"""Seconds of a generation of 16 tokens while MDI is read, beside plain SDPA and eager attention that keeps its squares.

python benchmarks/dominance_speed.py --dtype float32 --lengths 640 2586 --layers 2 --rounds 5 --out FILE
python benchmarks/dominance_speed.py --device cuda --layers 32 --samples 100 --out FILE       # on a GPU
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from common import alternate, decoder, machine, medians, narrowed, peak_bytes, prompt, write

from sightline.probes.dominance import Dominance

TOKENS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden-size", type=int, help="narrower than a 7B model, to try the script")
    parser.add_argument("--attention", default="sdpa", help="the model's own kernel, as flash_attention_2")
    parser.add_argument("--lengths", type=int, nargs="+", default=[640, 2586])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=0, help="then measure this many prompts in one go")
    parser.add_argument("--quantize", choices=["4bit"])
    parser.add_argument("--without-eager", action="store_true")
    parser.add_argument("--out")
    options = parser.parse_args()
    model = decoder(
        options.layers,
        getattr(torch, options.dtype),
        options.device,
        options.quantize,
        options.attention,
        **narrowed(options.hidden_size),
    )
    document: dict[str, Any] = {
        "benchmark": "dominance_speed",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"} | {"new_tokens": TOKENS},
        "lengths": {},
    }
    # Code and allocator are warmed on a short prompt: at full length a warm-up would cost as much as a round.
    warm_up = _runs(model, 128, options)
    alternate(warm_up, 0, options.device)
    for length in options.lengths:
        runs = _runs(model, length, options)
        found = medians(alternate(runs, options.rounds, options.device, warm_up=0), against="plain")
        if options.device.startswith("cuda"):
            for name, run in runs.items():
                with peak_bytes(options.device) as peak:
                    run()
                found[name]["peak_bytes"] = peak[0]
        document["lengths"][str(length)] = found
        write(document, options.out)
    if options.samples:
        document["many"] = _many(model, options)
        write(document, options.out)


def _runs(model: Any, length: int, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    inputs, layout = prompt(length, options.device)

    def generate(**more: Any) -> Any:
        with torch.no_grad():
            return model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, **more)

    def measured(queries: str) -> Callable[[], Any]:
        def run() -> Any:
            with Dominance(queries=queries).on(model, layout=layout) as probe:  # type: ignore[arg-type]
                generate()
            return probe.result()

        return run

    def eager() -> Any:
        model.set_attn_implementation("eager")
        try:
            found = generate(output_attentions=True, return_dict_in_generate=True).attentions
            # The figure itself: mass of the text among the input for the row that predicts each token.
            rows = [[layer[0, :, -1, :length].float().mean(0) for layer in step] for step in found]
            return [[float(row[:35].sum() + row[-29:].sum()) for row in step] for step in rows]
        finally:
            model.set_attn_implementation("sdpa")

    runs = {"plain": generate, **{queries: measured(queries) for queries in ("generated", "prompt", "all")}}
    return runs if options.without_eager else runs | {"eager": eager}


def _many(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Many prompts one after the other under one probe: none may fail, and memory must not creep."""
    inputs, layout = prompt(options.lengths[-1], options.device)
    on_gpu = options.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with torch.no_grad(), Dominance().on(model, layout=layout) as probe:
        for _ in range(options.samples):
            model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    peak = torch.cuda.max_memory_allocated() if on_gpu else None
    return {"samples": len(probe.result().samples), "failed": 0, "peak_bytes": peak}


if __name__ == "__main__":
    main()
