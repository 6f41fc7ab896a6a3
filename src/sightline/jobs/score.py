"""`score`: answers made anywhere, by the benchmark's official scoring."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.files.json import plain
from sightline.jobs.evaluation_plan import BenchmarkSettings
from sightline.jobs.settings import job, setting, settings_of

if TYPE_CHECKING:
    import pandas as pd

    from sightline.benchmarks.answers import Scored
    from sightline.benchmarks.base import Benchmark
    from sightline.results.table import Section


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(BenchmarkSettings):
    """Which answers are scored, and how."""

    field: str | None = setting(
        None, "Where the model's words stand in a line; without, found by name.", metavar="NAME"
    )
    method: str | None = setting(None, "Whose answers, in a run folder with several methods.", metavar="SPEC")
    model: str | None = setting(None, "Whose answers, in a run folder with several models.")


@dataclass(frozen=True)
class Score:
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

    def to_pandas(self) -> pd.DataFrame:
        """Long form, a row an answered item: value is 1 for a right answer, 0 for a wrong one."""
        import pandas as pd

        verdicts, responses = self.scored.judgements, self.scored.responses
        frame: pd.DataFrame = pd.DataFrame(
            [
                {
                    "id": item.id,
                    "answer": responses[item.id],
                    "value": float(verdicts[item.id].right),
                    "metric": "right",
                    "group": item.group,
                    "truth": item.truth,
                    "parsed": verdicts[item.id].parsed,
                }
                for item in self.scored.items
                if item.id in verdicts
            ]
        )
        return frame

    def sections(self) -> list[Section]:
        """As a table."""
        from sightline.pages.tables.score import sections

        return sections(self.title, self.scored.document)

    def __str__(self) -> str:
        from sightline.results.plain import plain_text

        return plain_text(self.sections())

    def _repr_html_(self) -> str:
        from sightline.results.plain import html_text

        return html_text(self.sections())


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
    from sightline.benchmarks import find_bench
    from sightline.benchmarks.answer_files import run_fields
    from sightline.benchmarks.answers import score_answers
    from sightline.pages.tables.score import write_items

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
