"""What `calibrate` found: the table of instruments, and that of methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.calibration.remedies import Remedy
from sightline.calibration.table import Agreement
from sightline.errors import InputError
from sightline.files.json import plain
from sightline.jobs.calibrate_plan import COMMAND
from sightline.pages.calibration_figures import agreement_figure, truth_axes
from sightline.pages.tables.calibrate import sections
from sightline.pages.tables.markdown import markdown_text
from sightline.results.result import Result
from sightline.results.style import axes_of, look
from sightline.results.table import Section
from sightline.runs.folder import Run
from sightline.runs.records import Record, Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width


@dataclass(frozen=True)
class Calibration(Result):
    """What `calibrate` found.

    rows      one for each instrument, truth and model
    methods   one for each method and model
    models    of which a truth is known and that were looked at
    settings  scenes, seed and dtype
    failed    the records of cases that could not be done
    folder    the run folder, if there is one
    run       the records behind it
    """

    rows: tuple[Agreement, ...]
    methods: tuple[Remedy, ...]
    models: tuple[str, ...]
    settings: Mapping[str, Any]
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None
    run: Records | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found: dict[str, Any] = plain(
            {
                "models": list(self.models),
                **self.settings,
                "instruments": [row.to_dict() for row in self.rows],
                "methods": [remedy.to_dict() for remedy in self.methods],
                "failed": len(self.failed),
            }
        )
        return found

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], failed: tuple[Record, ...] = (), folder: Path | None = None
    ) -> Calibration:
        """The inverse of `to_dict`, without the records; KeyError or TypeError for what is no such document."""
        own = ("models", "instruments", "methods", "failed")
        rows = tuple(Agreement(**{**row, "ci95": _bounds(row)}) for row in document["instruments"])
        methods = tuple(Remedy(**{**row, "ci95": _bounds(row)}) for row in document["methods"])
        settings = {name: value for name, value in document.items() if name not in own}
        return cls(rows, methods, tuple(document["models"]), settings, failed, folder)

    def entries(self) -> list[dict[str, Any]]:
        """A row an instrument, truth and model, `id` the truth; and a row a method and model, `metric` "points"."""
        agreements = [
            {"id": row.truth, "model": row.model, "method": None, "value": row.value, "metric": row.metric}
            | {"ci_low": (row.ci95 or (None, None))[0], "ci_high": (row.ci95 or (None, None))[1], "n": row.n}
            | {"instrument": row.instrument, "is_control": row.is_control, "chance": row.chance, "passes": row.passes}
            for row in self.rows
        ]
        remedies = [
            {"id": "answers", "model": row.model, "method": row.method, "value": row.points, "metric": "points"}
            | {"ci_low": (row.ci95 or (None, None))[0], "ci_high": (row.ci95 or (None, None))[1], "n": row.n}
            | {"is_control": row.is_control, "mended": row.mended, "broken": row.broken, "p_value": row.p_value}
            for row in self.methods
        ]
        return agreements + remedies

    def to_markdown(self) -> str:
        """The tables in Markdown, for a page."""
        return markdown_text(self.sections())

    def sections(self) -> list[Section]:
        """As sentences and tables."""
        return sections(self.to_dict())

    def plot(self, ax: Any = None, *, truth: str = "reliance", style: Style = "paper", width: Width = "column") -> Axes:
        """How well each instrument agrees with one truth, with its 95% interval, as axes for `sl.save_figure`.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.
            truth: of the table, as "reliance", "follows", "place", "sinks".
            style: "paper" or "screen".
            width: of the new figure, "column" or "page".
        """
        document = self.to_dict()
        known = dict.fromkeys(row["truth"] for row in document["instruments"])
        if truth not in known:
            raise InputError(f"There is no truth {truth!r} in this calibration: give {', '.join(known)}.")
        with look(style):
            return truth_axes(document, axes_of(ax, width, 1.1), truth)

    def draw(self, folder: Path) -> None:
        """Every truth in one figure, as PNG and SVG."""
        agreement_figure(self.to_dict(), folder)

    def save(self, folder: str | Path) -> Path:
        """Write a run folder; InputError where another run is there."""
        if self.run is None:
            raise InputError("This calibration was put together by hand and has no records to save.")
        with Run.open(folder, COMMAND, self.run.settings) as kept:
            kept.take(self.run.all_records())
            kept.finish(self.to_dict())
        self.draw(Path(folder) / "figures")
        return Path(folder)


def _bounds(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if row["ci95"] is None else (row["ci95"][0], row["ci95"][1])
