"""What every result of a job can do: be shown as text, in a notebook, in a paper."""

from __future__ import annotations

from sightline.results.latex import latex_text
from sightline.results.plain import html_text, plain_text
from sightline.results.table import Section


class Result:
    """Base of the results of jobs; `sections` is what they are shown as."""

    def sections(self) -> list[Section]:
        """As sentences and tables."""
        raise NotImplementedError

    def to_latex(self) -> str:
        r"""The tables for a paper; they need \usepackage{booktabs}."""
        return latex_text(self.sections())

    def __str__(self) -> str:
        return plain_text(self.sections())

    def _repr_html_(self) -> str:
        return html_text(self.sections())
