"""A model's sinks as sentences and tables."""

from __future__ import annotations

from typing import Any

from sightline.probes.sinks.known import known_sinks
from sightline.results.table import Section, Table
from sightline.text import number


def sink_sections(sinks: Any) -> list[Section]:
    """The dimensions, the candidates, the layers, and how they hold against attention."""
    found: list[Section] = [str(sinks)]
    if not sinks.dims:
        found.append(
            "Methods that act on sinks (var and its controls) change nothing on it; the others do not need any."
        )
    reported = known_sinks(sinks.model)
    if reported is not None:
        found.append(f"Reported elsewhere: {', '.join(map(str, reported.dims))} ({reported.source}).")
    if sinks.candidates:
        rows = [(str(dim), number(score), "yes" if dim in sinks.dims else "") for dim, score in sinks.candidates]
        found.append(Table("Candidates", ("dimension", "score", "kept"), rows))
    found.append(_layers(sinks))
    if sinks.precision is not None or sinks.recall is not None:
        found.append(f"Against attention itself: precision {number(sinks.precision)}, recall {number(sinks.recall)}.")
    if sinks.on_border is not None:
        found.append(f"On the border: {number(sinks.on_border)} of image sinks, {number(sinks.border)} of all patches.")
    if sinks.on_background is not None:
        found.append(
            f"On uniform background: {number(sinks.on_background)} of image sinks, "
            f"{number(sinks.background)} of all patches."
        )
    return found


def _layers(sinks: Any) -> Table:
    failed = f", {sinks.failed} failed" if sinks.failed else ""
    title = f"{sinks.model}: {sinks.samples} sample{'s' * (sinks.samples != 1)}{failed}"
    rows = [
        (
            str(layer.layer),
            number(layer.image_sinks, 1),
            number(layer.text_sinks, 1),
            number(layer.attended, 1),
            number(layer.precision),
            number(layer.recall),
        )
        for layer in sinks.layers
    ]
    columns = ("layer", "image sinks", "text sinks", f"above {sinks.factor:g} x uniform", "precision", "recall")
    return Table(title, columns, rows)
