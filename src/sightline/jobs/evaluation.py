"""What an evaluation found: each model's answers to each benchmark, scored and compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.answers import unparsed_notes
from sightline.benchmarks.compare import adjust
from sightline.errors import InputError
from sightline.files.json import plain
from sightline.jobs.benchmark_score import BenchmarkScore, score_of
from sightline.jobs.paired import compare_scores
from sightline.pages.forest import effects_axes
from sightline.pages.tables.evaluate import models_table, sections, write_tables
from sightline.results.result import Result, frame_of
from sightline.runs.folder import Run
from sightline.runs.records import Record, Records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.jobs.evaluation_plan import EvaluationPlan
    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class Evaluation(Result):
    """What `evaluate` found.

    scores   one for each benchmark and model
    failed   the records of items that could not be answered
    folder   the run folder, if there is one
    runs     the records behind them, one for each benchmark
    is_main  False in a process whose run another process has summed up
    """

    scores: tuple[BenchmarkScore, ...]
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
    runs: tuple[Records, ...] = field(default=(), repr=False, compare=False)
    is_main: bool = field(default=True, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document: of the only benchmark and model, or all under "evaluations"."""
        found: list[dict[str, Any]] = [plain(score.document) for score in self.scores]
        if len(found) == 1:
            return found[0]
        between = self.between_models()
        return {"evaluations": found} | ({"models_paired": plain(between)} if between else {})

    def between_models(self) -> list[dict[str, Any]]:
        """The first model against each other one, benchmark by benchmark and method by method, with Holm."""
        first: dict[tuple[str, str], BenchmarkScore] = {}
        pairs = []
        for score in self.scores:
            ours = first.setdefault((score.items.name, str(score.items.path)), score)
            if ours.model != score.model:
                pairs += [(ours, label, score, label) for label in ours.verdicts if label in score.verdicts]
        return compare_scores(pairs)

    def compare(self, other: Evaluation) -> pd.DataFrame:
        """Each benchmark and method of this one against the same of another evaluation, paired by item, with Holm.

        One model or method is named for another: where each has a single one, they are compared whatever their names.
        """
        import pandas as pd

        pairs = []
        for ours in self.scores:
            for theirs in (score for score in other.scores if score.items.name == ours.items.name):
                if len(ours.verdicts) == 1 and len(theirs.verdicts) == 1:
                    pairs.append((ours, next(iter(ours.verdicts)), theirs, next(iter(theirs.verdicts))))
                else:
                    pairs += [(ours, label, theirs, label) for label in ours.verdicts if label in theirs.verdicts]
        if not pairs:
            raise InputError("The two evaluations have no benchmark and method in common.")
        frame: pd.DataFrame = pd.DataFrame(compare_scores(pairs))
        return frame

    def plot(
        self, ax: Any = None, *, metric: str = "difference", style: Style = "paper", width: Width = "column"
    ) -> Axes:
        """A forest with 95% intervals, controls in grey; `sl.save_figure` writes what it returns.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.
            metric: "difference" to the first method, "score", each benchmark's headline, or the gain in it against
                "cost", seconds an answer, "prefill" or "cache", of one benchmark and model.
            style: "paper" or "screen".
            width: of the new figure, "column" or "page".
        """
        return effects_axes([score.document for score in self.scores], ax, metric, style, width)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder, or one for each benchmark below it, as the command does."""
        if not self.runs:
            raise InputError("This evaluation was put together by hand and has no records to save.")
        names = list(dict.fromkeys(score.items.name for score in self.scores))
        for name, run in zip(names, self.runs, strict=True):
            mine = [score for score in self.scores if score.items.name == name]
            place = Path(folder) if len(names) == 1 else Path(folder) / name
            with Run.open(place, "eval", run.settings, info=mine[0].about()) as kept:
                kept.take(run.all_records())
                kept.finish(replace(self, scores=tuple(mine)).to_dict())
            write_tables(place, [score.document for score in mine])
        return Path(folder)

    def entries(self) -> list[dict[str, Any]]:
        """A row an item, method and model: value is 1 for a right answer, 0 for a wrong one."""
        return [row for score in self.scores for row in score.rows()]

    def by(self, name: str) -> pd.DataFrame:
        """The scores by a field of the items: a row a value, method and figure, with 95% bootstrap intervals.

        Columns: the field, n, model, bench, method, metric, value, ci_low, ci_high. Each interval is over the items of
        that value alone. Raises InputError where no item has the field, with those that there are.
        """
        return frame_of([row for score in self.scores for row in score.rows_by(name)])

    def notes(self) -> list[str]:
        """Sentences on what a reader of the figures must know: odd items, and answers that could not be read."""
        found = []
        for score in self.scores:
            bench, items = score.items.bench, score.items.items
            found += bench.oddities(items)
            for label, verdicts in score.verdicts.items():
                words = {name: str((score.answers[label][name].result or {}).get("response")) for name in verdicts}
                found += [f"{score.model} on {bench.name}, {label}: {note}" for note in unparsed_notes(words, verdicts)]
        return list(dict.fromkeys(found))

    def lines_files(self) -> list[Path]:
        """The files of raw answers."""
        folders = dict.fromkeys(score.folder for score in self.scores if score.folder is not None)
        return [path for folder in folders for path in sorted(folder.glob("samples*.jsonl"))]

    def in_folder(self, folder: Path) -> Evaluation:
        """The part that one of its run folders holds."""
        return replace(self, scores=tuple(score for score in self.scores if score.folder == folder))

    def of_another_process(self) -> Evaluation:
        """The same, where another process has summed the run up."""
        return replace(self, is_main=False)

    def sections(self) -> list[Section]:
        """As tables."""
        between = self.between_models()
        found = sections([score.document for score in self.scores])
        return [*found, models_table(between)] if between else found


def evaluation_of(plan: EvaluationPlan, runs: Sequence[Records], folder: Path | None) -> Evaluation:
    """The scores of what the runs hold. InputError where not one item of a benchmark was answered."""
    scores: list[BenchmarkScore] = []
    failed: list[Record] = []
    for items, run in zip(plan.benches, runs, strict=True):
        records = {record.key: record for record in run.all_records()}
        for model in plan.models:
            lines = {
                spec.label: {name: records[model.name, spec.name, name] for name in items.ids} for spec in plan.specs
            }
            scores.append(score_of(plan, items, run, model.name, lines))
        failed += [
            record
            for record in records.values()
            if record.error is not None
            and record.id in set(items.ids)
            and record.method in {spec.name for spec in plan.specs}
            and record.model in {model.name for model in plan.models}
        ]
    adjust([score.document for score in scores])
    return Evaluation(tuple(scores), tuple(failed), folder, tuple(runs))
