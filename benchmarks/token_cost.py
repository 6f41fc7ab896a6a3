"""What a reading or a method adds to each generated token, to each prompt, and in operations: on a small model.

    OMP_NUM_THREADS=1 python benchmarks/token_cost.py --rounds 9 --out FILE

On a small model, as on a GPU, what counts is the Python and the number of operations around each attention call.
Processor time of one thread; plain and attached runs alternate, so that what else the machine does falls on all alike.
Time is a line in the number of tokens: its slope, between `--few` and `--many` new tokens, is the cost of a token, and
what is left at none the cost of a prompt. Differences are taken within a round; given are their median over rounds, a
95% interval of it by the bootstrap, and the difference of the quickest runs. On a busy machine each token is timed too:
the difference of the quickest tenth is disturbed least. What is done but now and then, as rows that wait for each
other, is in the slope alone.
Operations are what PyTorch dispatches, less views: on a GPU a kernel each.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from common import machine, write
from torch.utils._python_dispatch import TorchDispatchMode

import sightline as sl
from sightline.methods.base import parse_spec
from sightline.zoo.samples import shapes_samples

SPECS = ["dominance", "grounding", "var", "vaf", "pai:gamma=1", "pai", "vcd", "icd", "m3id", "adaptvis", "spin"]
SINK_SETTINGS = "dims=0+1+2+3+4+5+6+7,tau=1.5,rho=1,summ=0"
"""With these every layer from the third on has sinks and every head gives: the most that VAR can do."""

Run = Callable[[int], list[float]]

COUNTED = (4, 12)
"""Tokens of the runs whose operations are counted."""


class Operations(TorchDispatchMode):
    """Counts the operations inside that make new values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        is_view = any(each.alias_info is not None and not each.alias_info.is_write for each in returns)
        self.count += not is_view and "empty" not in str(func)
        return func(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-llava")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--specs", nargs="+", default=SPECS)
    parser.add_argument("--few", type=int, default=24)
    parser.add_argument("--many", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    vlm = sl.load(options.model, dtype="float32", device=options.device)
    scene = {name: next(iter(shapes_samples(1, seed=0)))[name] for name in ("image", "prompt")}
    inputs = vlm.encode(sl.Sample(**scene))
    layers = len(vlm.anatomy.attention_layers)
    runs = {"plain": runner(vlm, inputs, "none"), **{spec: runner(vlm, inputs, spec) for spec in options.specs}}
    lengths = (options.few, options.many)
    times, tokens = alternated(runs, lengths, options.rounds)
    counts = {name: operations(run) for name, run in runs.items()}
    plain_slopes = slopes(times["plain"], lengths)
    document = {
        "benchmark": "token_cost",
        **machine(options.device),
        "settings": {name: value for name, value in vars(options).items() if name != "out"},
        "layers": layers,
        "prompt_positions": int(inputs["input_ids"].shape[1]),
        "plain": {
            "milliseconds_a_token": 1e3 * statistics.median(slope for slope, _ in plain_slopes),
            "milliseconds_a_quick_token": 1e3 * quick(tokens["plain"]),
            "milliseconds_a_prompt": 1e3 * statistics.median(rest for _, rest in plain_slopes),
            "operations_a_token": counts["plain"][0],
        },
        "attached": {
            name: {
                "microseconds_a_quick_token_and_layer": (quick(tokens[name]) - quick(tokens["plain"])) * 1e6 / layers,
                "times_plain_a_quick_token": quick(tokens[name]) / quick(tokens["plain"]),
                **costs(times[name], times["plain"], counts[name], counts["plain"], lengths, layers),
            }
            for name in options.specs
        },
    }
    write(document, options.out)


def runner(vlm: Any, inputs: Any, spec: str) -> Run:
    """A function that generates so many tokens with the method on, from entering to its result; it notes the time of
    each token."""
    full = f"var:{SINK_SETTINGS}" if spec == "var" else spec
    method = sl.Dominance() if spec == "dominance" else parse_spec(full)

    def run(tokens: int) -> list[float]:
        marks: list[float] = []

        def mark(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            marks.append(time.thread_time())
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

        options = {
            "max_new_tokens": tokens,
            "min_new_tokens": tokens,
            "do_sample": False,
            "stopping_criteria": [mark],
        }
        if method is None:
            vlm.generate_tokens(inputs, **options)
            return marks
        with method.on(vlm) as probe:
            vlm.generate_tokens(inputs, **options)
        if probe is not None:
            probe.result()
        return marks

    return run


def alternated(
    runs: dict[str, Run], lengths: tuple[int, int], rounds: int
) -> tuple[dict[str, list[tuple[float, ...]]], dict[str, list[float]]]:
    """By run and round: seconds of processor time for each length, and by run those of each token but the first ones.

    The order changes from round to round.
    """
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in runs}
    tokens: dict[str, list[float]] = {name: [] for name in runs}
    order, shuffled = list(runs), random.Random(0)
    for number in range(-1, rounds):
        shuffled.shuffle(order)
        for name in order:
            with without_collection():
                taken = [timed(runs[name], length) for length in lengths]
            if number >= 0:
                times[name].append(tuple(seconds for seconds, _ in taken))
                tokens[name] += [after - before for _, marks in taken for before, after in pairwise(marks[2:])]
    return times, tokens


def timed(run: Run, tokens: int) -> tuple[float, list[float]]:
    """Seconds of this thread, and when each token was there."""
    start = time.thread_time()
    marks = run(tokens)
    return time.thread_time() - start, marks


def quick(tokens: list[float]) -> float:
    """Seconds of a token that little disturbed: a tenth is quicker."""
    return sorted(tokens)[len(tokens) // 10]


@contextmanager
def without_collection() -> Iterator[None]:
    """Python's collector runs between the runs, not within them."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def operations(run: Run) -> tuple[float, float]:
    """A token, and a prompt; they are a line in the number of tokens too."""
    few, many = COUNTED
    first, second = counted(run, few), counted(run, many)
    slope = (second - first) / (many - few)
    return slope, first - few * slope


def counted(run: Run, tokens: int) -> int:
    """Operations of a run."""
    with Operations() as made:
        run(tokens)
    return made.count


def slopes(times: list[tuple[float, ...]], lengths: tuple[int, int]) -> list[tuple[float, float]]:
    """By round: seconds a token, and what is left for none."""
    few, many = lengths
    found = []
    for first, second in times:
        slope = (second - first) / (many - few)
        found.append((slope, first - few * slope))
    return found


def costs(
    ours: list[tuple[float, ...]],
    plain: list[tuple[float, ...]],
    our_counts: tuple[float, float],
    plain_counts: tuple[float, float],
    lengths: tuple[int, int],
    layers: int,
) -> dict[str, Any]:
    """What one run adds to the plain one."""
    pairs = list(zip(slopes(ours, lengths), slopes(plain, lengths), strict=True))
    added = [(mine[0] - base[0]) * 1e6 / layers for mine, base in pairs]
    prompt = [(mine[1] - base[1]) * 1e3 for mine, base in pairs]
    factor = [mine[0] / base[0] for mine, base in pairs]
    best, best_plain = slopes([least(ours)], lengths)[0], slopes([least(plain)], lengths)[0]
    return {
        "microseconds_a_token_and_layer": middle(added),
        "microseconds_a_token_and_layer_of_the_quickest": (best[0] - best_plain[0]) * 1e6 / layers,
        "milliseconds_a_prompt_of_the_quickest": (best[1] - best_plain[1]) * 1e3,
        "times_plain_a_token": middle(factor),
        "milliseconds_a_prompt": middle(prompt),
        "operations_a_token_and_layer": (our_counts[0] - plain_counts[0]) / layers,
        "operations_a_prompt": our_counts[1] - plain_counts[1],
    }


def least(times: list[tuple[float, ...]]) -> tuple[float, ...]:
    """The quickest run of each length: what a busy machine disturbs least."""
    return tuple(min(each) for each in zip(*times, strict=True))


def middle(values: list[float]) -> dict[str, float]:
    """The median, and a 95% interval of it."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(1000))
    return {"median": statistics.median(values), "low": medians[25], "high": medians[974]}


if __name__ == "__main__":
    main()
