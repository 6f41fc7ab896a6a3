"""Sweeps without self-deception: settings are chosen on one half of a benchmark, the chosen one is run on the other.

`vcd:alpha=0.5|1|2` is a sweep. Halves are made of independent units (all questions about an image fall into the same),
drawn by the seed. The best of several settings looks better than it is on the half that chose it; the held-out half,
run once under the chosen setting, says what it is worth. Both are shown.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sightline.benchmarks.compare import independent_units
from sightline.errors import InputError
from sightline.files.json import json_text, plain, write_atomically
from sightline.jobs.benchmark_items import BenchmarkItems
from sightline.jobs.evaluation import Evaluation
from sightline.results.result import Result
from sightline.results.table import Section
from sightline.runs.folder import SUMMARY_FILE
from sightline.runs.records import Record

TUNING, HELD_OUT = "tuning", "held-out"
"""Names of the halves' run folders."""

Evaluate = Callable[[BenchmarkItems, Sequence[Any], Path | None, bool], Evaluation]
"""From a half, its methods, its folder, and whether it is the held-out one."""


@dataclass(frozen=True)
class Sweep(Result):
    """What a sweep found.

    Attributes:
        chosen: by sweep, as it was written, the setting that the tuning half chose.
        tuning: every setting on the tuning half.
        held_out: the chosen settings on the other half.
        folder: the run folder, if there is one.
    """

    chosen: Mapping[str, str]
    tuning: Evaluation
    held_out: Evaluation
    folder: Path | None = field(default=None)

    @property
    def scores(self) -> tuple[Any, ...]:
        """Those of the held-out half."""
        return self.held_out.scores

    @property
    def failed(self) -> tuple[Record, ...]:
        """Of both halves."""
        return (*self.tuning.failed, *self.held_out.failed)

    @property
    def is_main(self) -> bool:
        """False in a process whose run another process has summed up."""
        return self.held_out.is_main

    def notes(self) -> list[str]:
        """What a reader of the figures must know."""
        return list(dict.fromkeys([*self.tuning.notes(), *self.held_out.notes()]))

    def lines_files(self) -> list[Path]:
        """The files of raw answers."""
        return [*self.tuning.lines_files(), *self.held_out.lines_files()]

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        halves = {"tuning": self.tuning.to_dict(), "held_out": self.held_out.to_dict()}
        found: dict[str, Any] = plain({"chosen": dict(self.chosen), "tied": self.tied(), **halves})
        return found

    def tied(self) -> dict[str, list[str]]:
        """By sweep, as it was written, the settings of the best headline where several tie; the first is taken."""
        best = {written: best_of(self.tuning, settings_in(written)) for written in self.chosen}
        return {written: settings for written, settings in best.items() if len(settings) > 1}

    def _tie(self, written: str) -> str:
        """Words on a choice that the tuning half did not make."""
        tied, of = self.tied().get(written), len(settings_in(written))
        if tied is None:
            return ""
        words = f"all {of}" if len(tied) == of else f"{len(tied)} of {of}"
        return f", the first of {words} that tie on this half ({', '.join(tied)}): it does not choose between them"

    def sections(self) -> list[Section]:
        """Both halves, and what was chosen between them."""
        chosen = [f"Chosen of {written}: {setting}{self._tie(written)}." for written, setting in self.chosen.items()]
        return [
            "The half that chooses:",
            *self.tuning.sections(),
            *chosen,
            "The half held out, on which the chosen settings are run once:",
            *self.held_out.sections(),
        ]


def is_sweep(method: Any) -> bool:
    """Whether a method is written with several values of a field."""
    return isinstance(method, str) and "|" in method


def settings_in(written: str) -> tuple[str, ...]:
    """The specs of a sweep: every combination of its fields' values.

    Raises:
        InputError: for a field with an empty or a repeated value.
    """
    name, _, fields = written.strip().partition(":")
    parts = [part.partition("=") for part in fields.split(",")]
    values = [[value.strip() for value in text.split("|")] for _, _, text in parts]
    if "|" in name or any("" in of or len(set(of)) < len(of) for of in values):
        raise InputError(f"The sweep '{written}' has an empty or repeated value: write it as vcd:alpha=0.5|1|2.")
    return tuple(
        f"{name}:" + ",".join(f"{key}={value}" for (key, _, _), value in zip(parts, chosen, strict=True))
        for chosen in itertools.product(*values)
    )


def halves_of(items: BenchmarkItems, seed: int) -> tuple[BenchmarkItems, BenchmarkItems]:
    """Two halves of independent units, each in the benchmark's order; invalid items are in the second.

    Raises:
        InputError: for fewer than four units.
    """
    units = independent_units(items.bench, items.items)
    if len(units) < 4:
        raise InputError(
            f"A sweep chooses on half of the independent items, and {items.name} has {len(units)} here: give 4 or more."
        )
    order = random.Random(f"sweep/{seed}").sample(range(len(units)), len(units))
    first = {name for place in order[: len(units) // 2] for name in units[place]}
    tuning = replace(items, items=tuple(item for item in items.items if item.id in first), bad=())
    return tuning, replace(items, items=tuple(item for item in items.items if item.id not in first))


def plain_of(methods: Sequence[Any], has_controls: bool) -> list[Any]:
    """The methods that are no sweep; on both halves the first is what the others are compared with.

    The model as it is stands in front where there is none, and, being the first control, where controls are wanted.
    """
    found = [method for method in methods if not is_sweep(method)]
    has_none = any(method is None or (isinstance(method, str) and method.strip() == "none") for method in found)
    return found if found and (has_none or not has_controls) else ["none", *found]


def run_sweep(
    methods: Sequence[Any],
    plain_methods: Sequence[Any],
    items: BenchmarkItems,
    seed: int,
    folder: Path | None,
    run: Evaluate,
) -> Sweep:
    """Every setting of the sweeps on the tuning half; then the chosen ones, and the methods without, on the other.

    plain_methods: of `plain_of`, what both halves are compared with in front.
    """
    sweeps = {str(method): settings_in(method) for method in methods if is_sweep(method)}
    tuning_items, held_out_items = halves_of(items, seed)
    places = [None if folder is None else folder / name for name in (TUNING, HELD_OUT)]
    every = [setting for settings in sweeps.values() for setting in settings]
    tuning = run(tuning_items, [plain_methods[0], *every], places[0], False)
    chosen = {written: best_of(tuning, settings)[0] for written, settings in sweeps.items()}
    held_out = run(held_out_items, [*plain_methods, *dict.fromkeys(chosen.values())], places[1], True)
    found = Sweep(chosen, tuning, held_out, folder)
    if folder is not None:
        write_atomically(folder / SUMMARY_FILE, json_text(found.to_dict(), indent=2))
    return found


def best_of(tuning: Evaluation, settings: Sequence[str]) -> list[str]:
    """The settings of the best headline, several where they tie."""
    (score,) = tuning.scores
    sign = -1 if score.document["better"] == "smaller" else 1
    values = {setting: score.document["methods"][setting][score.document["headline"]] for setting in settings}
    known = {setting: sign * value for setting, value in values.items() if value is not None}
    if not known:
        raise InputError("No setting of the sweep has a score on the tuning half.")
    best = max(known.values())
    return [setting for setting, value in known.items() if value == best]
