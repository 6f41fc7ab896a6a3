"""The samples of a page: pictures, answers and maps, and which of them differ most."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError, SightlineError
from sightline.knockout.result import ImpactMap
from sightline.pages.aggregates import maps_of
from sightline.pages.items import RunItems, items_of_run
from sightline.pages.naming import display_name
from sightline.pages.page_maps import attention_maps, impact_maps
from sightline.pages.pictures import fitted, is_thumbnail, thumbnails
from sightline.pages.reading import RunFolder, impact_documents
from sightline.probes.dominance import SampleMaps
from sightline.runs.records import Record
from sightline.runs.stored import DamagedLine

PAGE_BYTES = 3_300_000
"""Room for the maps and pictures of all samples together; the rest of a page is about a sixth of it."""

MAP_BYTES, LEAST_MAP_BYTES = 60_000, 1_500
"""Room for one map at most, and at least."""


def samples_of(run: RunFolder, number: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The samples of a run, light: what is heavy is read when they are chosen. And sentences about what is missing."""
    if run.command == "impact":
        documents = impact_documents(run.folder)
        return [{"run": number, "id": name, "variants": [document]} for name, document in documents], []
    if run.command not in ("measure", "demo", "eval"):
        return [], []
    groups: dict[str, list[Record]] = {}
    for record in run.records:
        groups.setdefault(record.id, []).append(record)
    entries: list[dict[str, Any]] = [
        {"run": number, "id": name, "variants": records} for name, records in groups.items()
    ]
    if run.command == "eval":
        items = items_of_run(run)
        order = {name: place for place, name in enumerate(items.items or {})}
        flipped = _flipped(run)
        # Those that a method flips first: they are what a reader looks for.
        entries.sort(key=lambda entry: (entry["id"] not in flipped, order.get(entry["id"], len(order))))
        return [entry | {"items": items} for entry in entries], [items.note] if items.note else []
    with_maps = [entry for entry in entries if any(maps_of(record) for record in entry["variants"])]
    if not with_maps:
        return entries, ["No maps in this run: measure with --maps 100."]
    mapped = {entry["id"] for entry in with_maps}
    rest = [entry for entry in entries if entry["id"] not in mapped]
    notes = [f"Maps were kept of {len(with_maps)} of {len(entries)} samples."] if rest else []
    return sorted(with_maps, key=lambda entry: _natural(entry["id"])) + rest, notes


def _flipped(run: RunFolder) -> set[str]:
    documents = run.summary.get("evaluations") or [run.summary]
    pairs = [pair.get("flipped") or {} for document in documents for pair in document.get("paired") or ()]
    return {str(name) for flipped in pairs for names in flipped.values() for name in names}


def _natural(text: str) -> list[tuple[int, str]]:
    """So that 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", text)]


def show(entries: Sequence[Mapping[str, Any]], runs: Sequence[RunFolder]) -> tuple[list[dict[str, Any]], int | None]:
    """The samples as the page carries them, and the one to open on: where methods differ most."""
    shown = [_shown(entry, runs) for entry in entries]
    fitted([entry["images"] for entry in shown])
    first = max(range(len(shown)), key=lambda place: (*_telling(shown[place]), -place), default=None)
    _fill_maps(shown)
    return shown, first


def _telling(entry: Mapping[str, Any]) -> tuple[float, ...]:
    """How much there is to see: maps, answers that are right with one method only, other answers, other maps."""
    variants = entry["variants"]
    kept = [variant["kept"] for variant in variants if "kept" in variant]
    has_maps = bool(kept) or any("maps" in variant for variant in variants)
    rights = {variant["right"] for variant in variants if variant.get("right") is not None}
    answers = {variant["answer"] for variant in variants}
    return has_maps, len(variants) > 1, len(rights) > 1, len(answers) > 1, _distance(kept)


def _distance(kept: Sequence[Mapping[str, Any]]) -> float:
    """How far the maps of the first two variants lie apart: total variation, mean over words and layers; 0 of one."""
    try:
        means = [SampleMaps.from_dict({**each, "heads": None, "head_grids": []}).mean for each in kept[:2]]
    except (KeyError, TypeError, ValueError):
        return 0.0
    if len(means) < 2 or means[0].shape[1:] != means[1].shape[1:]:
        return 0.0
    count = min(len(means[0]), len(means[1]))
    return float(np.abs(means[0][:count] - means[1][:count]).sum(-1).mean() / 2)


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
        return _impact_sample(entry)
    found: RunItems = entry.get("items") or RunItems()
    labels = _labels(run)
    item = (found.items or {}).get(entry["id"])
    records: list[Record] = entry["variants"]
    maps = [maps_of(record) for record in records]
    kept: Mapping[str, Any] = next((each for each in maps if each), {})
    images, foreign = (None, 0) if kept.get("images") is None else _own_pictures(kept["images"])
    order = list(labels.values())
    variants = [
        _variant(record, each, found, run, labels)
        for record, each in sorted(
            zip(records, maps, strict=True),
            key=lambda pair: (pair[0].model, pair[0].method != "none", _place(order, labels.get(pair[0].method))),
        )
    ]
    return {
        "run": entry["run"],
        "id": entry["id"],
        "prompt": _words(kept.get("question")) if item is None else item.prompt,
        "truth": _words(kept.get("truth") if item is None else item.truth),
        "images": _pictures(found, item) if images is None else images,
        "foreign": foreign,
        "variants": variants,
    }


def _place(order: Sequence[str], label: str | None) -> int:
    return order.index(label) if label in order else len(order)


def _labels(run: RunFolder) -> dict[str, str]:
    """Methods of an evaluation as the user wrote them, by how its lines call them."""
    documents = run.summary.get("evaluations") or [run.summary]
    return {
        str(method.get("method")): label
        for document in documents
        for label, method in (document.get("methods") or {}).items()
        if isinstance(method, dict)
    }


def _variant(
    record: Record, maps: Mapping[str, Any] | None, found: RunItems, run: RunFolder, labels: Mapping[str, str]
) -> dict[str, Any]:
    try:
        result = dict(record.result or {})
    except DamagedLine:
        return {"name": display_name(record.model, record.method), "method": record.method, "answer": None} | {
            "error": "The line of this sample is damaged."
        }
    label = labels.get(record.method, record.method)
    shown: dict[str, Any] = {
        "name": display_name(record.model, label),
        "method": label or "none",
        "answer": result.get("text", result.get("response")),
    }
    if record.error is not None:
        return shown | {"error": record.error}
    if "response" in result:
        shown["right"] = found.right(record.id, str(result["response"]), str(run.summary.get("parser") or "official"))
    if maps is not None:
        shown["kept"] = maps
    return shown


def _pictures(found: RunItems, item: Any) -> list[dict[str, Any]]:
    if item is None:
        return []
    try:
        return thumbnails(found.bench.sample(item).load_images())
    except (SightlineError, OSError):
        return []


def _own_pictures(images: Any) -> tuple[list[dict[str, Any]], int]:
    """The small pictures that a run folder holds, and how many other things stand among them."""
    given = images if isinstance(images, list) else [images]
    own = [dict(image) for image in given if is_thumbnail(image)]
    return own, len(given) - len(own)


def _words(truth: Any) -> str | None:
    if truth is None:
        return None
    return ", ".join(map(str, truth)) if isinstance(truth, list | tuple) else str(truth)


def _impact_sample(entry: Mapping[str, Any]) -> dict[str, Any]:
    (document,) = entry["variants"]
    variant: dict[str, Any] = {"name": display_name(str(document.get("model", ""))), "method": "none", "answer": None}
    try:
        found = [ImpactMap.from_dict(each) for each in document.get("new_tokens", [document])]
        variant["maps"] = impact_maps(found)
        variant["answer"] = document.get("text") or found[0].baseline.get(
            "predicted_text", found[0].baseline.get("text")
        )
    except (InputError, KeyError, TypeError, ValueError, IndexError) as error:
        variant["error"] = f"This map cannot be shown ({' '.join(str(error).split())})."
    images, foreign = _own_pictures(document.get("images", []))
    return {
        "run": entry["run"],
        "id": entry["id"],
        "prompt": _words(document.get("prompt")),
        "truth": None,
        "images": images,
        "foreign": foreign,
        "variants": [variant],
    }
