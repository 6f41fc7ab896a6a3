"""`score`: answers made anywhere, by the benchmark's official scoring."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.answer_files import run_fields
from sightline.benchmarks.answers import score_answers
from sightline.benchmarks.base import find_bench
from sightline.benchmarks.compare import intervals
from sightline.errors import InputError
from sightline.files.json import plain
from sightline.jobs.benchmark_items import BenchmarkItems
from sightline.jobs.benchmark_score import BenchmarkScore
from sightline.jobs.evaluation_plan import ScoreSettings
from sightline.jobs.paired import compare_scores
from sightline.jobs.settings import job, settings_of
from sightline.pages.forest import Effect, forest
from sightline.pages.tables.score import sections, write_items
from sightline.results.result import Result, frame_of
from sightline.results.style import axes_of, look

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.benchmarks.answers import Scored
    from sightline.benchmarks.base import Benchmark
    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class Score(Result):
    """What `score` found.

    title     of its table
    scored    the items, their responses and verdicts
    bench     by whose rules
    answers   where the answers stand
    data      the benchmark's files that were given
    settings  how it was scored
    """

    title: str
    scored: Scored = field(repr=False)
    bench: Benchmark = field(repr=False)
    answers: Path
    data: Path | None = None
    settings: ScoreSettings = field(default_factory=ScoreSettings, repr=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what a reader of the figures must know."""
        return self.scored.notes

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found: dict[str, Any] = plain(self.scored.document)
        return found

    def as_evaluation(self) -> dict[str, Any]:
        """The document as that of an evaluation of one method, as gates read it."""
        return {
            "model": str(self.answers),
            "bench": self.bench.name,
            "headline": self.bench.headline,
            "better": self.bench.better,
            "methods": {self.settings.method or "answers": self.to_dict()},
            "paired": [],
        }

    def entries(self) -> list[dict[str, Any]]:
        """A row an answered item: value is 1 for a right answer, 0 for a wrong one."""
        verdicts, responses = self.scored.judgements, self.scored.responses
        return [
            {
                "id": item.id,
                "model": str(self.answers),
                "method": self.settings.method,
                "answer": responses[item.id],
                "value": float(verdicts[item.id].right),
                "metric": "right",
                "bench": self.bench.name,
                "group": item.group,
                "truth": item.truth,
                "parsed": verdicts[item.id].parsed,
            }
            for item in self.scored.items
            if item.id in verdicts
        ]

    def by(self, name: str) -> pd.DataFrame:
        """As `Evaluation.by`: the figures by a field of the items, with 95% bootstrap intervals."""
        return frame_of(self._as_score().rows_by(name))

    def compare(self, other: Score) -> pd.DataFrame:
        """These answers against others to the same benchmark, paired by item (see `sightline.jobs.paired`)."""
        if self.bench.name != other.bench.name:
            raise InputError(f"{self.bench.name} and {other.bench.name} are two benchmarks: compare answers to one.")
        ours, theirs = self._as_score(), other._as_score()
        return frame_of(compare_scores([(ours, next(iter(ours.verdicts)), theirs, next(iter(theirs.verdicts)))]))

    def plot(self, ax: Any = None, *, style: Style = "paper", width: Width = "column") -> Axes:
        """The headline with its 95% interval, and of each group, as a forest; `sl.save_figure` writes it."""
        parts = self.by("group").query("metric == @self.bench.headline").to_dict("records") if self._has_groups else []
        whole = intervals(self.bench, self.scored.items, self.scored.judgements, seed=self.settings.seed)
        value, interval = whole[self.bench.headline]
        lines = [Effect("all", value or 0.0, *(interval or (None, None)))]
        lines += [Effect(str(each["group"]), each["value"], each["ci_low"], each["ci_high"]) for each in parts]
        with look(style):
            axes = axes_of(ax, width, max(0.35, 0.09 * len(lines) + 0.15))
            return forest(lines, axes, f"{self.bench.name}: {self.bench.headline}", None)

    @property
    def _has_groups(self) -> bool:
        return len({item.group for item in self.scored.items}) > 1

    def _as_score(self) -> BenchmarkScore:
        """As the score of one method of an evaluation."""
        items = BenchmarkItems(self.bench, tuple(self.scored.items))
        document = {"model": str(self.answers), "seed": self.settings.seed}
        return BenchmarkScore(document, items, {self.settings.method or "none": self.scored.judgements}, {})

    def sections(self) -> list[Section]:
        """As a table."""
        return sections(self.title, self.scored.document)


@job(ScoreSettings)
def score(
    bench: str,
    answers: str | Path,
    *,
    data: str | Path | None = None,
    items: str | Path | None = None,
    **fields: Any,
) -> Score:
    """Scores answers as the benchmark's official script does, or without any guessing.

    Args:
        bench: the benchmark's name.
        answers: JSON lines, a run folder, or the benchmark's official kind of file or folder.
        data: the benchmark's official file or folder; without it the items are those that the answers carry, else those
            of the hub. A run folder says itself which items it has.
        items: a file to write one line an item to.
    """

    settings = settings_of(ScoreSettings, fields)
    benchmark = find_bench(bench, **(run_fields(bench, Path(answers)) | settings.of_bench()))
    place = None if data is None else Path(data)
    scored = score_answers(
        benchmark,
        Path(answers),
        place,
        parser=settings.parser,
        method=settings.method,
        model=settings.model,
        seed=settings.seed,
        limit=settings.limit,
        field=settings.field,
    )
    if items is not None:
        write_items(Path(items), scored)
    return Score(f"{benchmark.title}, {settings.parser} parser", scored, benchmark, Path(answers), place, settings)
