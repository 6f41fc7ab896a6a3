"""How a training went: what it logged and how it was evaluated."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.training_sample import BadLine
from sightline.errors import InputError
from sightline.files.json import plain
from sightline.pages.tables.train import sections
from sightline.results.paired import differences
from sightline.results.result import Result
from sightline.results.style import axes_of, look
from sightline.runs.folder import SUMMARY_FILE
from sightline.training.folder import EVALUATIONS_FILE, LOG_FILE, log_lines
from sightline.training.settings import TrainSettings
from sightline.training.state import TrainingEvaluation
from sightline.training.trainer import TrainResult

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class Training(Result):
    """How a training went. model, data: their names. result: what `sightline.training.trainer.train_model` returns."""

    model: str
    data: str
    samples: int
    settings: TrainSettings = field(repr=False)
    result: TrainResult = field(repr=False)

    @property
    def folder(self) -> Path:
        """The trained model, for `sightline.load`."""
        return self.result.folder

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        result = self.result
        evaluations = [{"step": found.step, **found.figures} for found in result.evaluations]
        document: dict[str, Any] = plain(
            {
                "model": self.model,
                "data": self.data,
                "samples": self.samples,
                "passed_over": [{"where": bad.where, "error": bad.error} for bad in result.passed_over],
                "steps": result.steps,
                "resumed_from": result.resumed_from,
                "kept_step": result.kept_step,
                "losses": result.losses,
                "evaluation": {
                    "before": evaluations[0] if evaluations else None,
                    "after": evaluations[-1] if evaluations else None,
                    "all": evaluations,
                },
                "folder": str(result.folder),
                "seconds": result.seconds,
                "settings": dataclasses.asdict(self.settings),
            }
        )
        return document

    def entries(self) -> list[dict[str, Any]]:
        """A row a step and logged number, and a row a figure of each evaluation, with its step."""
        shared = {"id": self.data, "model": self.model, "method": "train"}
        logged = [
            shared | {"step": line["step"], "metric": name, "value": value}
            for line in self.result.log
            for name, value in line.items()
            if "step" in line and name != "step" and isinstance(value, int | float)
        ]
        found = [
            shared | {"step": each.step, "metric": f"eval {name}", "value": value}
            for each in self.result.evaluations
            for name, value in each.figures.items()
        ]
        return logged + found

    def compare(self, other: Training) -> pd.DataFrame:
        """What both logged and evaluated, each at the last step that both have it at.

        Of one training each there are no intervals: `sl.evaluate` of both folders has them.
        """
        ours, theirs = _by_metric(self), _by_metric(other)
        last = {name: max(ours[name].keys() & theirs[name].keys(), default=None) for name in ours if name in theirs}
        at = [(name, step) for name, step in last.items() if step is not None]
        sides = [[({"metric": name, "step": step}, of[name][step]) for name, step in at] for of in (ours, theirs)]
        return differences((str(self.folder), str(other.folder)), *sides)

    def sections(self) -> list[Section]:
        """Losses and evaluations as tables."""
        return sections(self.to_dict())

    def plot(self, ax: Any = None, *, metric: str = "loss", style: Style = "paper", width: Width = "column") -> Axes:
        """A logged number by step, as "loss", "language", "ground", or a figure of the evaluations, as "eval ...".

        Raises InputError for one that was not logged, with those that were.
        """
        rows = self.entries()
        points = [(row["step"], row["value"]) for row in rows if row["metric"] == metric]
        if not points:
            known = ", ".join(dict.fromkeys(row["metric"] for row in rows))
            raise InputError(f"There is no {metric!r} in the log: give one of {known}.")
        with look(style):
            axes = axes_of(ax, width)
            axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else "")
            axes.set(xlabel="step", ylabel=metric, title=f"{self.model} on {self.data}")
            return axes


def _by_metric(found: Training) -> dict[str, dict[int, float]]:
    """A logged number by step."""
    values: dict[str, dict[int, float]] = {}
    for row in found.entries():
        values.setdefault(row["metric"], {})[row["step"]] = float(row["value"])
    return values


def read_training_run(folder: Path) -> Training:
    """What `train` left in a folder; InputError where it has not ended, or a file is damaged."""
    try:
        document = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        evaluations = json.loads((folder / EVALUATIONS_FILE).read_text(encoding="utf-8"))
        settings = TrainSettings(**document["settings"] | {"eval_benches": tuple(document["settings"]["eval_benches"])})
        result = TrainResult(
            folder=folder,
            steps=document["steps"],
            log=tuple(log_lines(folder / LOG_FILE)),
            evaluations=tuple(TrainingEvaluation(each["figures"], each["score"], each["step"]) for each in evaluations),
            kept_step=document["kept_step"],
            resumed_from=document["resumed_from"],
            passed_over=tuple(BadLine(bad["where"], bad["error"]) for bad in document["passed_over"]),
            seconds=document["seconds"],
        )
        return Training(document["model"], document["data"], document["samples"], settings, result)
    except OSError as error:
        raise InputError(f"{folder} holds a training that has not ended: resume it first.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / SUMMARY_FILE} is damaged: resume the training to write it again.") from error
