"""What a page shows, as one JSON document: aggregates of each run, and samples with pictures and maps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from sightline.errors import InputError, SightlineError
from sightline.pages.items import Found, find_items
from sightline.pages.page_maps import attention_maps, impact_maps
from sightline.pages.pictures import thumbnails
from sightline.pages.reading import RunFolder, impact_documents
from sightline.runs.records import Record

PAGE_BYTES = 3_300_000
"""Room for the maps and pictures of all samples together; the rest of a page is about a sixth of it."""

MAP_BYTES, LEAST_MAP_BYTES = 60_000, 1_500
"""Room for one map at most, and at least."""

SAMPLES = 400
"""Samples that a page shows unless told otherwise, evenly over the runs."""


def contents(runs: Sequence[RunFolder], samples: int = SAMPLES) -> dict[str, Any]:
    """The document of a page. Samples beyond `samples` are left out, which "left" counts.

    Raises:
        InputError: when a run is of no command that a report can show.
    """
    by_run = [_samples_of(run, number) for number, run in enumerate(runs)]
    whole = sum(len(found) for found, _ in by_run)
    # In turns, so that no run crowds the others out; then in the order of the runs again.
    turns = [entry for entry in chain.from_iterable(zip_longest(*(found for found, _ in by_run))) if entry]
    chosen = sorted(turns[:samples], key=lambda entry: int(entry["run"]))
    shown = [_shown(entry, runs) for entry in chosen]
    _fill_maps(shown)
    notes = [[*run.notes, *told] for run, (_, told) in zip(runs, by_run, strict=True)]
    return {
        "runs": [_about(run, told) for run, told in zip(runs, notes, strict=True)],
        "dominance": list(chain.from_iterable(_dominance(run, number) for number, run in enumerate(runs))),
        "sinks": [_sinks(run, number) for number, run in enumerate(runs) if run.command == "sinks" and run.summary],
        "attended": list(chain.from_iterable(_attended(run, number) for number, run in enumerate(runs))),
        "evaluations": list(chain.from_iterable(_evaluations(run, number) for number, run in enumerate(runs))),
        "training": [_training(run, number) for number, run in enumerate(runs) if run.log],
        "samples": shown,
        "left": whole - len(chosen),
    }


def _about(run: RunFolder, notes: Sequence[str]) -> dict[str, Any]:
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


# Measurements -------------------------------------------------------------------------------------------------------


def _dominance(run: RunFolder, number: int) -> list[dict[str, Any]]:
    """`measure` documents, each without its method and with it."""
    if run.command not in ("measure", "demo") and "layers" not in run.summary:
        return []
    if run.command in ("sinks", "eval", "impact", "train"):
        return []
    documents = run.summary.get("models") or ([run.summary] if "layers" in run.summary else [])
    flat = [told for entry in documents for told in (entry.get("baseline"), entry) if told]
    flat = flat or _from_records(run)
    return [
        {
            "run": number,
            "name": display_name(str(told["model"]), told.get("method")),
            "model": display_name(str(told["model"]), None),
            "queries": told.get("queries"),
            "samples": told.get("samples"),
            "failed": told.get("failed", 0),
            "tokens": told.get("tokens", {}),
            "layers": [_layer(layer) for layer in told["layers"]],
            "stages": told.get("stages", {}),
            "published": published_rows(str(told["model"]), str(told.get("queries"))),
        }
        for told in flat
    ]


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("layer", "mdi", "mdi_ci95", "mdi_no_sinks", "aei", "aei_ci95", "aei_no_sinks", "text_mass", "image_mass")
    return {name: layer.get(name) for name in names} | {
        name: value for name, value in layer.items() if name in ("video_mass", "audio_mass")
    }


def _from_records(run: RunFolder) -> list[dict[str, Any]]:
    """Documents of a run that is not finished."""
    from sightline.probes.dominance import SampleDominance, aggregate

    groups: dict[tuple[str, str], list[Record]] = {}
    for record in run.records:
        groups.setdefault((record.model, record.method), []).append(record)
    found = []
    for (model, method), records in groups.items():
        try:
            good = [SampleDominance.from_dict(record.result["dominance"]) for record in records if record.result]
            told = aggregate(good, model=model, failed=len(records) - len(good)).to_dict()
        except (InputError, KeyError, TypeError, ValueError):
            continue
        found.append(told | {"method": method})
    return found


def published_rows(model: str, queries: str) -> list[dict[str, Any]]:
    """The published rows of a known model on the same query set: stages with MDI and AEI."""
    from sightline.probes.dominance import PUBLISHED

    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return [
        {"name": row.name, "source": row.source, "note": row.note, "mdi": list(row.mdi), "aei": list(row.aei)}
        for row in PUBLISHED.values()
        if row.queries == queries and name.startswith(re.sub(r"-x\d+$", "", row.name))
    ]


# Sinks, benchmarks, training ----------------------------------------------------------------------------------------


def _sinks(run: RunFolder, number: int) -> dict[str, Any]:
    names = (
        "model", "dims", "tau", "gap", "precision", "recall", "candidates", "layers", "factor", "samples", "failed",
        "on_border", "border", "on_background", "background",
    )  # fmt: skip
    return {name: run.summary.get(name) for name in names} | {"run": number}


def _attended(run: RunFolder, number: int) -> list[dict[str, Any]]:
    """Where on the image attention and sinks lie, mean over the samples whose first grid is of the usual shape."""
    from sightline.probes.map_values import SampleMaps

    groups: dict[tuple[str, str], list[SampleMaps]] = {}
    for record in run.records:
        maps = _maps_of(record)
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


def _evaluations(run: RunFolder, number: int) -> list[dict[str, Any]]:
    if run.command != "eval":
        return []
    documents = run.summary.get("evaluations") or ([run.summary] if "methods" in run.summary else [])
    return [
        {
            "run": number,
            "model": display_name(str(told["model"]), None),
            **{name: told.get(name) for name in ("bench", "n", "headline", "better", "parser", "methods", "paired")},
        }
        for told in documents
    ]


def _training(run: RunFolder, number: int) -> dict[str, Any]:
    """The logged numbers by step, at most 400 steps of each."""
    series: dict[str, list[list[float]]] = {}
    for entry in run.log:
        for name, value in entry.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
            if name not in ("step", "epoch", "total_flos") and is_number:
                series.setdefault(name, []).append([float(entry["step"]), float(value)])
    thinned = {name: points[:: max(1, len(points) // 400)] for name, points in series.items() if len(points) > 1}
    return {"run": number, "name": run.name, "series": thinned}


# Samples ------------------------------------------------------------------------------------------------------------


def _samples_of(run: RunFolder, number: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The samples of a run, light: what is heavy is read when they are chosen. And sentences about what is missing."""
    if run.command == "impact":
        found = impact_documents(run.folder)
        return [{"run": number, "id": name, "variants": [document]} for name, document in found], []
    if run.command not in ("measure", "demo", "eval"):
        return [], []
    groups: dict[str, list[Record]] = {}
    for record in run.records:
        groups.setdefault(record.id, []).append(record)
    entries: list[dict[str, Any]] = [
        {"run": number, "id": name, "variants": records} for name, records in groups.items()
    ]
    if run.command == "eval":
        items = find_items(run)
        order = {name: place for place, name in enumerate(items.items or {})}
        entries.sort(key=lambda entry: order.get(entry["id"], len(order)))
        return [entry | {"items": items} for entry in entries], [items.note] if items.note else []
    with_maps = [entry for entry in entries if any(_maps_of(record) for record in entry["variants"])]
    if not with_maps:
        return entries, ["No maps in this run: measure with --maps 100."]
    rest = [entry for entry in entries if entry not in with_maps] if len(with_maps) < len(entries) else []
    told = [f"Maps were kept of {len(with_maps)} of {len(entries)} samples."] if rest else []
    return sorted(with_maps, key=lambda entry: _natural(entry["id"])) + rest, told


def _natural(text: str) -> list[tuple[int, str]]:
    """So that 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def _maps_of(record: Record) -> Mapping[str, Any] | None:
    maps = None if record.result is None else record.result.get("maps")
    return maps if isinstance(maps, dict) else None


def _fill_maps(shown: Sequence[Mapping[str, Any]]) -> None:
    """Puts the page's maps in the place of a run folder's, each as fine as the room that pictures leave allows."""
    pictures = sum(len(image["data"]) for entry in shown for image in entry["images"])
    waiting = [told for entry in shown for told in entry["variants"] if "kept" in told]
    budget = max(LEAST_MAP_BYTES, min(MAP_BYTES, (PAGE_BYTES - pictures) // max(1, len(waiting))))
    for told in waiting:
        kept = told.pop("kept")
        try:
            told["maps"] = attention_maps(kept, budget)
        except (KeyError, TypeError, ValueError):
            told["error"] = "The maps of this sample are damaged."


def _shown(entry: Mapping[str, Any], runs: Sequence[RunFolder]) -> dict[str, Any]:
    run = runs[entry["run"]]
    if run.command == "impact":
        return _impact_sample(entry, run)
    found: Found = entry.get("items") or Found()
    labels = _labels(run)
    item = (found.items or {}).get(entry["id"])
    records: list[Record] = entry["variants"]
    maps = [_maps_of(record) for record in records]
    told: Mapping[str, Any] = next((kept for kept in maps if kept), {})
    images = told.get("images")
    if images is None:
        images = _pictures(found, item)
    return {
        "run": entry["run"],
        "id": entry["id"],
        "prompt": told.get("question") if item is None else item.prompt,
        "truth": _words(told.get("truth") if item is None else item.truth),
        "images": images,
        "variants": [
            _variant(record, kept, found, run, labels)
            for record, kept in sorted(
                zip(records, maps, strict=True), key=lambda pair: (pair[0].model, pair[0].method != "none")
            )
        ],
    }


def _labels(run: RunFolder) -> dict[str, str]:
    """Methods of an evaluation as the user wrote them, by how its lines call them."""
    documents = run.summary.get("evaluations") or [run.summary]
    return {
        str(told.get("method")): label
        for document in documents
        for label, told in (document.get("methods") or {}).items()
        if isinstance(told, dict)
    }


def _variant(
    record: Record, maps: Mapping[str, Any] | None, found: Found, run: RunFolder, labels: Mapping[str, str]
) -> dict[str, Any]:
    result = record.result or {}
    answer = result.get("text", result.get("response"))
    name = display_name(record.model, labels.get(record.method, record.method))
    told: dict[str, Any] = {"name": name, "answer": answer}
    if record.error is not None:
        return told | {"error": record.error}
    if "response" in result:
        told["right"] = found.right(record.id, str(result["response"]), str(run.summary.get("parser") or "official"))
    if maps is not None:
        told["kept"] = maps
    return told


def _pictures(found: Found, item: Any) -> list[dict[str, Any]]:
    if item is None:
        return []
    try:
        return thumbnails(found.bench.sample(item).load_images())
    except (SightlineError, OSError):
        return []


def _words(truth: Any) -> str | None:
    if truth is None:
        return None
    return ", ".join(map(str, truth)) if isinstance(truth, list | tuple) else str(truth)


def _impact_sample(entry: Mapping[str, Any], run: RunFolder) -> dict[str, Any]:
    from sightline.knockout.result import ImpactMap

    (document,) = entry["variants"]
    told: dict[str, Any] = {
        "run": entry["run"],
        "id": entry["id"],
        "prompt": document.get("prompt"),
        "truth": None,
        "images": [image for image in document.get("images", []) if isinstance(image, dict)],
    }
    variant: dict[str, Any] = {"name": display_name(str(document.get("model", "")), None), "answer": None}
    try:
        found = [ImpactMap.from_dict(each) for each in document.get("new_tokens", [document])]
        variant["maps"] = impact_maps(found)
        variant["answer"] = document.get("text") or found[0].baseline.get("text")
    except (InputError, KeyError, TypeError, ValueError, IndexError) as error:
        variant["error"] = f"This map cannot be shown ({' '.join(str(error).split())})."
    return told | {"variants": [variant]}
