"""Time of generation under VAR beside plain SDPA and beside VAR on eager attention, at 7B layer geometry.

    python benchmarks/var_speed.py --lengths 640 2586 --new-tokens 32 --out FILE

Every layer redistributes here, 0 and 1 too, and every head qualifies: a real model does less. Weights are random, and
tau is such that about one token in forty is a sink. `eager` is the model on eager attention, untouched; `eager_var`
computes the equations on its whole weights, as a patched model file does, but without a loop over heads.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from common import alternate, decoder, machine, medians, prompt, write

from sightline.attention import sink_tracker
from sightline.methods.var import VAR
from sightline.models.layout import Modality

METHOD = VAR(dims=(3, 11), tau=2.5, rho=1.0, summ=0.0, skip_last=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lengths", type=int, nargs="+", default=[640, 2586])
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--no-eager", action="store_true")
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sink_tracker.FIRST_LAYER = 0
    model = decoder(options.layers, getattr(torch, options.dtype), options.device)
    document: dict[str, Any] = {
        "benchmark": "var_speed",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "lengths": {str(length): _measure(model, length, options) for length in options.lengths},
    }
    write(document, options.out)


def _measure(model: Any, length: int, options: argparse.Namespace) -> dict[str, Any]:
    inputs, layout = prompt(length, options.device)

    def generate() -> None:
        count = options.new_tokens
        with torch.no_grad():
            model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, do_sample=False)

    def under_var() -> None:
        with METHOD.on(model, layout):
            generate()

    def eager() -> None:
        with _on(model, "eager"):
            generate()

    def eager_var() -> None:
        with _eager_var(model, layout):
            generate()

    runs = {"plain": generate, "var": under_var}
    if not options.no_eager:
        runs |= {"eager": eager, "eager_var": eager_var}
    return medians(alternate(runs, options.rounds, options.device), "plain")


@contextmanager
def _on(model: Any, implementation: str) -> Iterator[None]:
    before = model.config._attn_implementation_internal
    model.config._attn_implementation_internal = implementation
    try:
        yield
    finally:
        model.config._attn_implementation_internal = before


@contextmanager
def _eager_var(model: Any, layout: Any) -> Iterator[None]:
    """VAR as a patched model file has it: eager weights, changed, times the values."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    image = layout.mask(Modality.IMAGE).to(model.device)
    start = int(image[0].nonzero().max()) + 1
    marks: dict[int, torch.Tensor] = {}

    def mark(module: Any, args: Any, kwargs: Any) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        if hidden.shape[1] > 1:
            marks[module.self_attn.layer_idx] = sink_tracker.phi(hidden, METHOD.dims) > METHOD.tau

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, Any]:
        eager = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
        _, weights = eager(module, query, key, value, mask, **options)
        sinks, keys = marks[module.layer_idx], weights.shape[-1]
        rows = slice(start, None) if weights.shape[2] > 1 else slice(None)
        member = [torch.nn.functional.pad(part, (0, keys - part.shape[1]))[:, None, None] for part in (sinks, image)]
        part = weights[:, :, rows].float()
        freed = ((1 - METHOD.p) * part * member[0]).sum(-1, keepdim=True)
        takes = part * (member[1] & ~member[0])
        changed = part - (1 - METHOD.p) * part * member[0] + freed * takes / takes.sum(-1, keepdim=True)
        weights[:, :, rows] = changed.to(weights.dtype)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights

    AttentionInterface.register("eager_var", attention)
    AttentionMaskInterface.register("eager_var", eager_mask)
    handles = [layer.register_forward_pre_hook(mark, with_kwargs=True) for layer in model.model.layers]
    try:
        with _on(model, "eager_var"):
            yield
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    main()
