"""What the benchmarks share: a decoder of 7B layer geometry, random weights, alternating runs, the machine."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch

GEOMETRY = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
}
"""LLaVA-1.5-7B's language model, one layer of it."""

TEXT_BEFORE, TEXT_AFTER = 35, 29


def narrowed(hidden_size: int | None) -> dict[str, int]:
    """`GEOMETRY` narrowed to this hidden size, its heads of 128 as before; the vocabulary stays. None: as it is."""
    if hidden_size is None:
        return {}
    heads = max(1, hidden_size // 128)
    inner = GEOMETRY["intermediate_size"] * hidden_size // GEOMETRY["hidden_size"]
    return {
        "hidden_size": hidden_size,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": inner,
    }


def decoder(
    layers: int,
    dtype: torch.dtype,
    device: str,
    quantize: str | None = None,
    attention: str = "sdpa",
    **changes: Any,
) -> Any:
    """A Llama decoder of `GEOMETRY` with seeded random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = GEOMETRY | changes
    config = LlamaConfig(
        num_hidden_layers=layers, max_position_embeddings=32768, attn_implementation=attention, **sizes
    )
    config.eos_token_id = None
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(previous)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    if quantize == "4bit":
        model = _quantised(model)
    return model.eval()


def _quantised(model: Any) -> Any:
    """The same weights in 4 bits (NF4), as `sl.load(quantize="4bit")` holds them."""
    import bitsandbytes as bnb
    from torch import nn

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child is not model.lm_head:
                small = bnb.nn.Linear4bit(
                    child.in_features,
                    child.out_features,
                    bias=False,
                    compute_dtype=child.weight.dtype,
                    quant_type="nf4",
                )
                small.weight = bnb.nn.Params4bit(child.weight.data.cpu(), requires_grad=False, quant_type="nf4")
                setattr(module, name, small.to(child.weight.device))
    model.is_loaded_in_4bit = True
    return model


def prompt(length: int, device: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Random token ids of `length` (35 text, image, 29 text), and their layout."""
    from sightline.models.layout import Modality, TokenLayout

    ids = torch.randint(10, 31000, (1, length), generator=torch.Generator().manual_seed(1)).to(device)
    modality = torch.full((1, length), int(Modality.IMAGE), dtype=torch.int8)
    modality[:, :TEXT_BEFORE] = int(Modality.TEXT)
    modality[:, length - TEXT_AFTER :] = int(Modality.TEXT)
    bos = torch.zeros((1, length), dtype=torch.bool)
    bos[:, 0] = True
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, TokenLayout(modality, length, ((),), bos)


Times = tuple[float, float]
"""Seconds by the clock, and seconds of processor time over all threads."""


def alternate(
    runs: Mapping[str, Callable[[], Any]], rounds: int, device: str, warm_up: int = 1
) -> dict[str, list[Times]]:
    """Times of every run, taken in turn `rounds` times after `warm_up` more, so that drift falls on all alike."""
    times: dict[str, list[Times]] = {name: [] for name in runs}
    for number in range(-warm_up, rounds):
        for name, run in runs.items():
            _wait(device)
            clock, processor = time.perf_counter(), time.process_time()
            run()
            _wait(device)
            if number >= 0:
                times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return times


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@contextmanager
def peak_bytes(device: str) -> Iterator[list[int]]:
    """Adds to the list it gives the most bytes held inside, above those held before.

    On a GPU by its allocator; else of the process, on Linux, memory that is free given back to the system before.
    """
    found: list[int] = []
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        yield found
        found.append(torch.cuda.max_memory_allocated() - before)
        return
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _held("VmRSS")
    yield found
    found.append(max(0, _held("VmHWM") - before))


def _held(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def medians(times: Mapping[str, list[Times]], against: str) -> dict[str, dict[str, float]]:
    """By run: median seconds, their spread, and the median over rounds of its ratio to the run `against` of the round.

    `factor` is by the clock. `processor_factor` is by processor time, which other programs on the machine disturb less;
    it means nothing for work on a GPU.
    """
    base = times[against]
    return {
        name: {
            "seconds": statistics.median(clock for clock, _ in values),
            "fastest": min(clock for clock, _ in values),
            "slowest": max(clock for clock, _ in values),
            "factor": statistics.median(ours[0] / other[0] for ours, other in zip(values, base, strict=True)),
            "processor_seconds": statistics.median(processor for _, processor in values),
            "processor_factor": statistics.median(ours[1] / other[1] for ours, other in zip(values, base, strict=True)),
        }
        for name, values in times.items()
    }


def machine(device: str) -> dict[str, Any]:
    """Where this ran."""
    import transformers

    name = torch.cuda.get_device_name(0) if device.startswith("cuda") else _processor()
    return {
        "machine": name,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return f"{found[0]}, {len(found)} cores"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def write(document: dict[str, Any], out: str | None) -> None:
    """Print the result as JSON, and keep it where `out` says."""
    text = json.dumps(document, indent=1)
    print(text)
    if out:
        Path(out).write_text(text + "\n")
