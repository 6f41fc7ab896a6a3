"""Several query sets of one measurement side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.jobs.measurement import Measurement
from sightline.pages.figures import by_layer, by_stage, dominance_figures
from sightline.pages.tables.measure import label
from sightline.results.result import Result
from sightline.results.style import axes_of, look
from sightline.runs.records import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class QuerySets(Result):
    """What `measure` found with several query sets. by_queries: each one's measurement. folder: that holds theirs."""

    by_queries: Mapping[str, Measurement]
    folder: Path | None = None

    @property
    def failed(self) -> tuple[Record, ...]:
        """The records of samples that could not be measured."""
        return tuple(record for each in self.by_queries.values() for record in each.failed)

    @property
    def is_main(self) -> bool:
        """False in a process whose run another process has summed up."""
        return all(each.is_main for each in self.by_queries.values())

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document: {"queries": {query set: its `measure` document}}."""
        return {"queries": {name: each.to_dict() for name, each in self.by_queries.items()}}

    def to_pandas(self) -> pd.DataFrame:
        """Long form; the column `queries` names the set."""
        import pandas as pd

        frame: pd.DataFrame = pd.concat([each.to_pandas() for each in self.by_queries.values()], ignore_index=True)
        return frame

    def documents(self) -> dict[str, dict[str, Any]]:
        """By the name that their lines have in a figure."""
        return {
            f"{label(document)}, {name}": document
            for name, each in self.by_queries.items()
            for document in each.documents()
        }

    def sections(self) -> list[Section]:
        """The tables of each set."""
        return [section for each in self.by_queries.values() for section in each.sections()]

    def plot(
        self, ax: Any = None, *, metric: str = "mdi", by: str = "layer", style: Style = "paper", width: Width = "column"
    ) -> Axes:
        """As `Measurement.plot`, a line or bar a query set."""
        drawn = {"layer": by_layer, "stage": by_stage}
        if by not in drawn:
            raise InputError(f"There is no figure by {by!r}: give {' or '.join(drawn)}.")
        with look(style):
            return drawn[by](self.documents(), axes_of(ax, width), metric)

    def draw(self, folder: Path) -> None:
        """MDI by layer and by stage, as PNG and SVG."""
        dominance_figures(self.documents(), folder)
