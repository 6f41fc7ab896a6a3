"""Time and memory of a training step with the grounding loss beside the plain step, at 7B layer geometry.

    python benchmarks/grounding_speed.py --length 640 --batch 1 --rounds 5 --out FILE
    python benchmarks/grounding_speed.py --device cuda --dtype bfloat16 --batch 1 4 --checkpointing --out FILE
    python benchmarks/grounding_speed.py --device cuda --dtype bfloat16 --layers 32 --quantize 4bit --lora 16 --out FILE

A step is a forward pass, the language loss on the text behind the image, and the backward pass into all weights (with
--lora into adapters alone, over weights of 4 bits with --quantize), which are not updated. `grounding` adds the scores
of the layers and the margin loss on every word of the answer. A negative caption is a second forward pass with or
without the loss, and is left out. Steps are taken in turn. Memory is the most held at once: on a GPU as its allocator
counts, weights and gradients included; on a CPU above these, by a profiler.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from common import TEXT_AFTER, alternate, decoder, machine, medians, narrowed, prompt, write

from sightline.models.layout import TokenLayout
from sightline.probes.grounding import Grounding
from sightline.training.losses import GroundingLoss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--scored", default="all", help="layers that are scored, as in Grounding(layers=...)")
    parser.add_argument("--kind", default="similarity")
    parser.add_argument("--top", type=int, default=1)
    parser.add_argument("--length", type=int, default=640)
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--hidden-size", type=int, help="narrower than a 7B model, to try the script")
    parser.add_argument("--quantize", choices=["4bit"])
    parser.add_argument("--lora", type=int, metavar="RANK", help="train adapters of queries and values alone")
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = decoder(
        options.layers,
        getattr(torch, options.dtype),
        options.device,
        options.quantize,
        **narrowed(options.hidden_size),
    ).train()
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if options.lora:
        from peft import LoraConfig, get_peft_model

        settings = LoraConfig(r=options.lora, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(model, settings)
    document: dict[str, Any] = {
        "benchmark": "grounding_speed",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "goal": {"time": 1.05, "memory": 1.03},
        "batches": {str(batch): _measure(model, batch, options) for batch in options.batch},
    }
    write(document, options.out)


def _measure(model: Any, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    one, single = prompt(options.length, options.device)
    inputs = {name: part.repeat(batch, 1) for name, part in one.items()}
    layout = single.repeated(batch)
    labels = inputs["input_ids"].clone()
    labels[:, : options.length - TEXT_AFTER] = -100
    words = (labels >= 0).float() * 2 - 1  # the answer is grounded, all else is not counted
    method, loss = Grounding(options.scored, options.kind, options.top), GroundingLoss(kind="margin")

    def step(is_grounded: bool) -> None:
        model.zero_grad(set_to_none=False)
        with method.on(model, layout) if is_grounded else nullcontext() as probe:
            total = model(**inputs, labels=labels, use_cache=False).loss
            if probe is not None:
                total = total + loss(probe.scores(), words).total
        total.backward()

    runs = {"plain": lambda: step(False), "grounding": lambda: step(True)}
    times = medians(alternate(runs, options.rounds, options.device, options.warm_up), "plain")
    memory = {name: _peak(run, options.device, layout) for name, run in runs.items()}
    factor = memory["grounding"] / memory["plain"]
    return {"times": times, "memory_bytes": memory, "memory_factor": factor}


def _peak(run: Callable[[], None], device: str, layout: TokenLayout) -> int:
    """The most bytes that a step holds at once: on a GPU all of them, weights and gradients included.

    On a CPU, where no allocator counts, the step runs under a profiler that follows every allocation; weights and
    gradients stand before it and are not in the number, so that the ratio is harder there.
    """
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated())
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    held = highest = 0
    for event in sorted(
        (event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    ):
        held += event.nbytes()
        highest = max(highest, held)
    return highest


if __name__ == "__main__":
    main()
