"""What every result of a job can do: be a table in long form, text, a notebook's page, LaTeX for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sightline.results.latex import latex_text
from sightline.results.plain import html_text, plain_text
from sightline.results.table import Section

if TYPE_CHECKING:
    import pandas as pd

LONG = ("id", "model", "method", "layer", "stage", "head", "image", "answer", "value", "metric")
"""The first columns of every result's table; what a kind of result does not have is None."""


class Result:
    """Base of the results of jobs: `entries` is what was found, `sections` what it is shown as."""

    def entries(self) -> Sequence[dict[str, Any]]:
        """Long form: an entry a value, with what of `LONG` it has, and more."""
        raise NotImplementedError

    def sections(self) -> list[Section]:
        """As sentences and tables."""
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """Long form, a row a value: id, model, method, layer, stage, head, image, answer, value, metric, and more."""
        return frame_of([{**dict.fromkeys(LONG), **row} for row in self.entries()])

    def to_latex(self) -> str:
        r"""The tables for a paper; they need \usepackage{booktabs}."""
        return latex_text(self.sections())

    def __str__(self) -> str:
        return plain_text(self.sections())

    def _repr_html_(self) -> str:
        return html_text(self.sections())


def frame_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A table of these rows; without any, of the columns of `LONG`."""
    import pandas as pd

    found: pd.DataFrame = pd.DataFrame(list(rows)) if rows else pd.DataFrame(columns=list(LONG))
    return found
