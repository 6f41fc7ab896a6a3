"""`sinks="auto"`: a model's sinks, found on the first samples of the job itself and kept in its run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.jobs.find_sinks import find_sinks
from sightline.jobs.methods import sinks_of
from sightline.jobs.models import ModelSource
from sightline.jobs.settings import ModelSettings

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.probes.sinks import Sinks

AUTO = "auto"

KEPT = "sinks.json"

FIRST = 24
"""Samples that they are found on."""


def sinks_for(
    given: Any,
    models: Sequence[ModelSource],
    samples: Callable[[], Sequence[Sample]],
    settings: ModelSettings,
    out: Path | None,
) -> Sinks | None:
    """The sinks of a file or as they are; of "auto" those of the one model, from the run folder where it has them.

    Raises:
        InputError: for "auto" with several models, whose sinks differ, and without a picture to find any on.
    """
    if str(given) != AUTO:
        return sinks_of(given)
    if len(models) != 1:
        raise InputError("Sinks are one model's own: give --sinks auto with one model, or a file for each run.")
    if out is not None and (out / KEPT).is_file():
        return sinks_of(out)
    first = [sample for sample in samples() if sample.images][:FIRST]
    if not first:
        raise InputError("No sample has a picture to find sinks on: give --sinks FILE.")
    (model,) = models
    fields = {field.name: getattr(settings, field.name) for field in dataclasses.fields(ModelSettings)}
    if model.vlm is not None:
        fields = {"seed": settings.seed}
    found = find_sinks(model.name if model.vlm is None else model.vlm, first, **fields)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        found.save(out)
    return found
