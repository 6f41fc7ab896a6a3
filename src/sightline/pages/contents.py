"""What a page shows, as one JSON document: aggregates of each run, and samples with pictures and maps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from sightline.errors import InputError, SightlineError
from sightline.knockout.result import ImpactMap
from sightline.pages.items import Found, find_items
from sightline.pages.page_maps import attention_maps, impact_maps
from sightline.pages.pictures import thumbnails
from sightline.pages.reading import RunFolder, impact_documents
from sightline.pages.run_aggregates import (
    about_run,
    attended_of,
    display_name,
    dominance_of,
    evaluations_of,
    maps_of,
    sinks_of_run,
    training_of,
)
from sightline.runs.records import Record

PAGE_BYTES = 3_300_000
"""Room for the maps and pictures of all samples together; the rest of a page is about a sixth of it."""

MAP_BYTES, LEAST_MAP_BYTES = 60_000, 1_500
"""Room for one map at most, and at least."""

SAMPLES = 400
"""Samples that a page shows by default, evenly over the runs."""


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
    notes = [[*run.notes, *missing] for run, (_, missing) in zip(runs, by_run, strict=True)]
    return {
        "runs": [about_run(run, sentences) for run, sentences in zip(runs, notes, strict=True)],
        "dominance": list(chain.from_iterable(dominance_of(run, number) for number, run in enumerate(runs))),
        "sinks": [
            sinks_of_run(run, number) for number, run in enumerate(runs) if run.command == "sinks" and run.summary
        ],
        "attended": list(chain.from_iterable(attended_of(run, number) for number, run in enumerate(runs))),
        "evaluations": list(chain.from_iterable(evaluations_of(run, number) for number, run in enumerate(runs))),
        "training": [training_of(run, number) for number, run in enumerate(runs) if run.log],
        "samples": shown,
        "left": whole - len(chosen),
    }


# Measurements -------------------------------------------------------------------------------------------------------


# Sinks, benchmarks, training ----------------------------------------------------------------------------------------


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
    with_maps = [entry for entry in entries if any(maps_of(record) for record in entry["variants"])]
    if not with_maps:
        return entries, ["No maps in this run: measure with --maps 100."]
    rest = [entry for entry in entries if entry not in with_maps] if len(with_maps) < len(entries) else []
    notes = [f"Maps were kept of {len(with_maps)} of {len(entries)} samples."] if rest else []
    return sorted(with_maps, key=lambda entry: _natural(entry["id"])) + rest, notes


def _natural(text: str) -> list[tuple[int, str]]:
    """So that 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def _fill_maps(shown: Sequence[Mapping[str, Any]]) -> None:
    """Puts the page's maps in the place of a run folder's, each as fine as the room that pictures leave allows."""
    pictures = sum(len(image["data"]) for entry in shown for image in entry["images"])
    waiting = [variant for entry in shown for variant in entry["variants"] if "kept" in variant]
    budget = max(LEAST_MAP_BYTES, min(MAP_BYTES, (PAGE_BYTES - pictures) // max(1, len(waiting))))
    for variant in waiting:
        kept = variant.pop("kept")
        try:
            variant["maps"] = attention_maps(kept, budget)
        except (KeyError, TypeError, ValueError):
            variant["error"] = "The maps of this sample are damaged."


def _shown(entry: Mapping[str, Any], runs: Sequence[RunFolder]) -> dict[str, Any]:
    run = runs[entry["run"]]
    if run.command == "impact":
        return _impact_sample(entry, run)
    found: Found = entry.get("items") or Found()
    labels = _labels(run)
    item = (found.items or {}).get(entry["id"])
    records: list[Record] = entry["variants"]
    maps = [maps_of(record) for record in records]
    with_maps: Mapping[str, Any] = next((kept for kept in maps if kept), {})
    images = with_maps.get("images")
    if images is None:
        images = _pictures(found, item)
    return {
        "run": entry["run"],
        "id": entry["id"],
        "prompt": with_maps.get("question") if item is None else item.prompt,
        "truth": _words(with_maps.get("truth") if item is None else item.truth),
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
        str(scores.get("method")): label
        for document in documents
        for label, scores in (document.get("methods") or {}).items()
        if isinstance(scores, dict)
    }


def _variant(
    record: Record, maps: Mapping[str, Any] | None, found: Found, run: RunFolder, labels: Mapping[str, str]
) -> dict[str, Any]:
    result = record.result or {}
    answer = result.get("text", result.get("response"))
    name = display_name(record.model, labels.get(record.method, record.method))
    variant: dict[str, Any] = {"name": name, "answer": answer}
    if record.error is not None:
        return variant | {"error": record.error}
    if "response" in result:
        variant["right"] = found.right(record.id, str(result["response"]), str(run.summary.get("parser") or "official"))
    if maps is not None:
        variant["kept"] = maps
    return variant


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
    (document,) = entry["variants"]
    sample: dict[str, Any] = {
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
    return sample | {"variants": [variant]}
