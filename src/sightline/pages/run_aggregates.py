"""What a page shows of each run as a whole: dominance, sinks, where attention lies, evaluations, training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.pages.reading import RunFolder
from sightline.probes.dominance import PUBLISHED, SampleDominance, aggregate
from sightline.probes.map_values import SampleMaps
from sightline.runs.records import Record


def about_run(run: RunFolder, notes: Sequence[str]) -> dict[str, Any]:
    """What the run is: its settings, versions, samples, and sentences about it."""
    failed = sum(record.error is not None for record in run.records)
    return {
        "name": run.name,
        "command": run.command,
        "settings": {name: value for name, value in run.settings.items() if value is not None},
        "info": {name: value for name, value in run.info.items() if value is not None},
        "versions": dict(run.versions),
        "started": run.started,
        "samples": len({record.id for record in run.records}),
        "failed": failed,
        "notes": list(notes),
    }


def display_name(model: str, method: str | None) -> str:
    """A model under a method: a folder by its last name, and the method where there is one."""
    name = model.rstrip("/").rsplit("/", 1)[-1] if model.startswith((".", "/", "~")) else model
    return name if method in (None, "none", "") else f"{name} · {method}"


def dominance_of(run: RunFolder, number: int) -> list[dict[str, Any]]:
    """`measure` documents, each without its method and with it."""
    if run.command not in ("measure", "demo") and "layers" not in run.summary:
        return []
    if run.command in ("sinks", "eval", "impact", "train"):
        return []
    documents = run.summary.get("models") or ([run.summary] if "layers" in run.summary else [])
    flat = [document for entry in documents for document in (entry.get("baseline"), entry) if document]
    flat = flat or _from_records(run)
    return [
        {
            "run": number,
            "name": display_name(str(document["model"]), document.get("method")),
            "model": display_name(str(document["model"]), None),
            "queries": document.get("queries"),
            "samples": document.get("samples"),
            "failed": document.get("failed", 0),
            "tokens": document.get("tokens", {}),
            "layers": [_layer(layer) for layer in document["layers"]],
            "stages": document.get("stages", {}),
            "published": published_rows(str(document["model"]), str(document.get("queries"))),
        }
        for document in flat
    ]


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("layer", "mdi", "mdi_ci95", "mdi_no_sinks", "aei", "aei_ci95", "aei_no_sinks", "text_mass", "image_mass")
    return {name: layer.get(name) for name in names} | {
        name: value for name, value in layer.items() if name in ("video_mass", "audio_mass")
    }


def _from_records(run: RunFolder) -> list[dict[str, Any]]:
    """Documents of a run that is not finished."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in run.records:
        groups.setdefault((record.model, record.method), []).append(record)
    found = []
    for (model, method), records in groups.items():
        try:
            good = [SampleDominance.from_dict(record.result["dominance"]) for record in records if record.result]
            document = aggregate(good, model=model, failed=len(records) - len(good)).to_dict()
        except (InputError, KeyError, TypeError, ValueError):
            continue
        found.append(document | {"method": method})
    return found


def published_rows(model: str, queries: str) -> list[dict[str, Any]]:
    """The published rows of a known model on the same query set: stages with MDI and AEI."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return [
        {"name": row.name, "source": row.source, "note": row.note, "mdi": list(row.mdi), "aei": list(row.aei)}
        for row in PUBLISHED.values()
        if row.queries == queries and name.startswith(re.sub(r"-x\d+$", "", row.name))
    ]


def sinks_of_run(run: RunFolder, number: int) -> dict[str, Any]:
    """The found sinks of a run of `sinks`."""
    names = (
        "model", "dims", "tau", "gap", "precision", "recall", "candidates", "layers", "factor", "samples", "failed",
        "on_border", "border", "on_background", "background",
    )  # fmt: skip
    return {name: run.summary.get(name) for name in names} | {"run": number}


def attended_of(run: RunFolder, number: int) -> list[dict[str, Any]]:
    """Where on the image attention and sinks lie, mean over the samples whose first grid is of the usual shape."""
    groups: dict[tuple[str, str], list[SampleMaps]] = {}
    for record in run.records:
        maps = maps_of(record)
        if maps is None:
            continue
        try:
            read = SampleMaps.from_dict({**maps, "heads": None, "head_grids": []})
        except (KeyError, TypeError, ValueError):
            continue
        if read.grids and (read.grids[0].cells >= 0).all():
            groups.setdefault((record.model, record.method), []).append(read)
    return [_mean_map(display_name(*key), number, found) for key, found in groups.items()]


def _mean_map(name: str, number: int, found: Sequence[Any]) -> dict[str, Any]:
    kind, _ = Counter((maps.grids[0].cells.shape, maps.layers) for maps in found).most_common(1)[0]
    alike = [maps for maps in found if (maps.grids[0].cells.shape, maps.layers) == kind]
    shares = np.stack([maps.mean[:, :, maps.grids[0].cells.ravel()].mean(0) for maps in alike])
    sinks = np.stack([maps.sinks[:, maps.grids[0].cells.ravel()] for maps in alike])
    (rows, columns), layers = kind
    return {
        "run": number,
        "name": name,
        "samples": len(alike),
        "rows": int(rows),
        "cols": int(columns),
        "layers": list(layers),
        "attention": _rounded(shares.mean(0)),
        "sinks": _rounded(sinks.mean(0)) if sinks.any() else None,
        "hasSinks": any(maps.has_sinks for maps in alike),
    }


def _rounded(values: Any) -> list[list[float]]:
    return [[float(f"{value:.3g}") for value in row] for row in values.tolist()]


SHOWN = ("bench", "n", "headline", "better", "parser", "methods", "paired")
"""Of an evaluation's document, what a page shows."""


def evaluations_of(run: RunFolder, number: int) -> list[dict[str, Any]]:
    """The scores of a run of `eval`, a benchmark each."""
    if run.command != "eval":
        return []
    documents = run.summary.get("evaluations") or ([run.summary] if "methods" in run.summary else [])
    return [
        {
            "run": number,
            "model": display_name(str(document["model"]), None),
            **{
                name: document.get(name) for name in ("bench", "n", "headline", "better", "parser", "methods", "paired")
            },
        }
        for document in documents
    ]


def training_of(run: RunFolder, number: int) -> dict[str, Any]:
    """The logged numbers by step, at most 400 steps of each."""
    series: dict[str, list[list[float]]] = {}
    for entry in run.log:
        for name, value in entry.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
            if name not in ("step", "epoch", "total_flos") and is_number:
                series.setdefault(name, []).append([float(entry["step"]), float(value)])
    thinned = {name: points[:: max(1, len(points) // 400)] for name, points in series.items() if len(points) > 1}
    return {"run": number, "name": run.name, "series": thinned}


def maps_of(record: Record) -> Mapping[str, Any] | None:
    """The maps that a record holds, as the run folder has them."""
    maps = None if record.result is None else record.result.get("maps")
    return maps if isinstance(maps, dict) else None
