"""The figures of run folders for a paper: those that each result's `.plot` draws, in the same look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.jobs.evaluation import Evaluation
from sightline.jobs.measurement import Measurement
from sightline.jobs.read_run import read_run
from sightline.knockout.result import ImpactMap
from sightline.pages.reading import RunFolder, impact_documents
from sightline.probes.sinks import Sinks
from sightline.results.style import KINDS, save_figure

DRAWN = ("measure", "eval", "sinks", "impact")
"""Commands whose runs have such figures."""


def write_figures(runs: Sequence[RunFolder], kind: str) -> list[Path]:
    """Writes figures/paper_NAME.KIND into each run folder, and returns their paths.

    Raises:
        InputError: for a kind that there is not, and for a run that has not ended.
    """
    if kind not in KINDS:
        raise InputError(f"There are no figures of the kind {kind!r}: give {', '.join(KINDS)}.")
    return [
        save_figure(drawn, run.folder / "figures" / f"paper_{name}.{kind}")
        for run in runs
        if run.command in DRAWN
        for name, drawn in _figures(run)
    ]


def _figures(run: RunFolder) -> Iterator[tuple[str, Any]]:
    if run.command == "impact":
        for name, document in impact_documents(run.folder):
            found = ImpactMap.from_dict(document.get("new_tokens", [document])[0])
            yield f"impact_{name}", found.plot()
        return
    result = read_run(run.folder)
    if isinstance(result, Measurement):
        yield "mdi_by_layer", result.plot()
        yield "mdi_by_stage", result.plot(by="stage")
        yield "aei_by_layer", result.plot(metric="aei")
    elif isinstance(result, Evaluation):
        if any(score.document["paired"] for score in result.scores):
            yield "differences", result.plot()
        yield "scores", result.plot(metric="score")
    elif isinstance(result, Sinks):
        yield "sinks", result.plot()
