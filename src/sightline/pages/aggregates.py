"""What whole runs found, as the page draws it: indices by layer, sinks, mean maps, impact, scores, losses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sightline.errors import InputError
from sightline.knockout.measures import ACTS, MEASURES, SIGNED
from sightline.knockout.result import ImpactMap
from sightline.pages.forest import is_control
from sightline.pages.impact_words import finding_of, meaning_of
from sightline.pages.naming import display_name, distinct_names, last_name
from sightline.pages.reading import UNFINISHED, RunFolder, impact_documents
from sightline.probes.dominance import PUBLISHED, SampleDominance, SampleMaps, aggregate
from sightline.runs.records import Record
from sightline.runs.stored import DamagedLine

BESIDE = ("sinks", "eval", "impact", "train")
"""Commands whose summary is no measurement, whatever fields it has."""


def dominances(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """`measure` documents, each without its method and with it, named by what differs."""
    found = [(number, document) for number, run in enumerate(runs) for document in _measured(run)]
    names = [display_name(str(document["model"]), document.get("method")) for _, document in found]
    names = distinct_names(names, [runs[number] for number, _ in found])
    return [_dominance(name, number, document, runs) for name, (number, document) in zip(names, found, strict=True)]


def _measured(run: RunFolder) -> list[Mapping[str, Any]]:
    if run.command in BESIDE or (run.command not in ("measure", "demo") and "layers" not in run.summary):
        return []
    documents = run.summary.get("models") or ([run.summary] if "layers" in run.summary else [])
    flat = [document for entry in documents for document in (entry.get("baseline"), entry) if document]
    return flat or _from_records(run)


def _dominance(name: str, number: int, document: Mapping[str, Any], runs: Sequence[RunFolder]) -> dict[str, Any]:
    return {
        "run": number,
        "name": name,
        "model": display_name(str(document["model"])),
        "method": document.get("method") or "none",
        "data": last_name(str(runs[number].settings.get("data") or "")),
        "queries": document.get("queries"),
        "samples": document.get("samples"),
        "failed": document.get("failed", 0),
        "tokens": document.get("tokens", {}),
        "layers": [_layer(layer) for layer in document["layers"]],
        "stages": document.get("stages", {}),
        "published": published_rows(str(document["model"]), str(document.get("queries"))),
    }


def _layer(layer: Mapping[str, Any]) -> dict[str, Any]:
    names = ("layer", "mdi", "mdi_ci95", "mdi_no_sinks", "aei", "aei_ci95", "aei_no_sinks", "text_mass", "image_mass")
    return {name: layer.get(name) for name in names} | {
        name: value for name, value in layer.items() if name in ("video_mass", "audio_mass")
    }


def _from_records(run: RunFolder) -> list[Mapping[str, Any]]:
    """Documents of a run that is not finished: of `UNFINISHED` samples at most, so that memory is bounded."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in run.records:
        groups.setdefault((record.model, record.method), []).append(record)
    found: list[Mapping[str, Any]] = []
    for (model, method), whole in groups.items():
        records = whole[:: -(-len(whole) // UNFINISHED)]
        try:
            good = [sample for record in records if (sample := _dominance_of(record)) is not None]
            failed = sum(record.error is not None for record in whole)
            document = aggregate(good, model=model, failed=failed).to_dict()
        except (InputError, KeyError, TypeError, ValueError):
            continue
        found.append(document | {"method": method})
    return found


def _dominance_of(record: Record) -> SampleDominance | None:
    """None of a sample that failed, or whose line is damaged."""
    try:
        return SampleDominance.from_dict(record.result["dominance"]) if record.result else None
    except DamagedLine:
        return None


def published_rows(model: str, queries: str) -> list[dict[str, Any]]:
    """The published rows of a known model on the same query set: stages with MDI and AEI."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return [
        {"name": row.name, "source": row.source, "note": row.note, "mdi": list(row.mdi), "aei": list(row.aei)}
        for row in PUBLISHED.values()
        if row.queries == queries and name.startswith(re.sub(r"-x\d+$", "", row.name))
    ]


def sinks(run: RunFolder, number: int) -> dict[str, Any]:
    """A `sinks` document, without what the page does not show."""
    names = (
        "dims", "tau", "gap", "precision", "recall", "candidates", "layers", "factor", "samples", "failed",
        "on_border", "border", "on_background", "background",
    )  # fmt: skip
    about = {"run": number, "model": display_name(str(run.summary.get("model", "")))}
    return {name: run.summary.get(name) for name in names} | about


def attended(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Where on the image attention and sinks lie, mean over the samples whose first grid is of the usual shape."""
    groups: dict[tuple[int, str, str], list[SampleMaps]] = {}
    for number, run in enumerate(runs):
        for record in run.records:
            maps = maps_of(record)
            try:
                read = None if maps is None else SampleMaps.from_dict({**maps, "heads": None, "head_grids": []})
            except (KeyError, TypeError, ValueError):
                continue
            if read is not None and read.grids and (read.grids[0].cells >= 0).all():
                groups.setdefault((number, record.model, record.method), []).append(read)
    names = distinct_names([display_name(*key[1:]) for key in groups], [runs[key[0]] for key in groups])
    return [_mean_map(name, key[0], found) for name, (key, found) in zip(names, groups.items(), strict=True)]


def maps_of(record: Record) -> Mapping[str, Any] | None:
    """The maps that `measure` kept of a sample; None where its line is damaged, too."""
    try:
        maps = None if record.result is None else record.result.get("maps")
    except DamagedLine:
        return None
    return maps if isinstance(maps, dict) else None


def _mean_map(name: str, number: int, found: Sequence[SampleMaps]) -> dict[str, Any]:
    kind, _ = Counter((maps.grids[0].cells.shape, maps.layers) for maps in found).most_common(1)[0]
    alike = [maps for maps in found if (maps.grids[0].cells.shape, maps.layers) == kind]
    shares = np.stack([maps.mean[:, :, maps.grids[0].cells.ravel()].mean(0) for maps in alike])
    marked = np.stack([maps.sinks[:, maps.grids[0].cells.ravel()] for maps in alike])
    (rows, columns), layers = kind
    return {
        "run": number,
        "name": name,
        "samples": len(alike),
        "rows": int(rows),
        "cols": int(columns),
        "layers": list(layers),
        "attention": _rounded(shares.mean(0)),
        "sinks": _rounded(marked.mean(0)) if marked.any() else None,
        "hasSinks": any(maps.has_sinks for maps in alike),
    }


def _rounded(values: Any) -> list[list[float]]:
    return [[float(f"{value:.3g}") for value in row] for row in values.tolist()]


def evaluations(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """`eval` documents, named by model and by what else differs; "controls" are the methods that see nothing better."""
    found = [
        (number, document)
        for number, run in enumerate(runs)
        if run.command == "eval"
        for document in run.summary.get("evaluations") or ([run.summary] if "methods" in run.summary else [])
    ]
    titles = [f"{document.get('bench')}, {display_name(str(document['model']))}" for _, document in found]
    titles = distinct_names(titles, [runs[number] for number, _ in found])
    fields = ("bench", "n", "headline", "better", "parser", "methods", "paired")
    return [
        {
            "run": number,
            "title": title,
            "model": display_name(str(document["model"])),
            "controls": [label for label in document.get("methods", {}) if is_control(label)],
            **{name: document.get(name) for name in fields},
        }
        for title, (number, document) in zip(titles, found, strict=True)
    ]


def training(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """The logged numbers by step, at most 400 steps of each."""
    found = []
    for number, run in enumerate(runs):
        series: dict[str, list[list[float]]] = {}
        for entry in run.log:
            for name, value in entry.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
                is_total = name in ("step", "epoch", "total_flos") or name.startswith("train_")
                if is_number and not is_total:
                    series.setdefault(name, []).append([float(entry["step"]), float(value)])
        thinned = {name: points[:: max(1, len(points) // 400)] for name, points in series.items()}
        if run.log:
            found.append({"run": number, "name": run.name, "series": thinned})
    return found


MERGED = {"lens": "largest", "norm": "mean"}
"""What becomes of a modality's sources where a sum means nothing."""


def impacts(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Of each run of `impact`, what hiding text and image does by layer, or what is read there, mean over its prompts.

    "series": by modality, the sum over its sources (see `MERGED` for others), the mean over prompts of the commonest
    layers. "acts": what the mode does with its sources; "says": its finding, where it hides none.
    """
    found = []
    for number, run in enumerate(runs):
        if run.command != "impact":
            continue
        maps: list[ImpactMap] = []
        for _, document in impact_documents(run.folder):
            try:
                maps.append(ImpactMap.from_dict(document.get("new_tokens", [document])[0]))
            except (InputError, KeyError, TypeError, ValueError, IndexError):
                continue
        if maps:
            found.append((_impact(number, maps), maps))
    names = distinct_names([entry["name"] for entry, _ in found], [runs[entry["run"]] for entry, _ in found])
    return [
        entry | {"name": name, "says": finding_of(name, maps, entry["series"])}
        for (entry, maps), name in zip(found, names, strict=True)
    ]


def _impact(number: int, maps: Sequence[ImpactMap]) -> dict[str, Any]:
    first = maps[0]
    alike = [each for each in maps if each.layers == first.layers and first.measure in each.maps]
    names = list(dict.fromkeys(source.modality for each in alike for source in each.tokens))
    series = {name: np.mean([_summed(each, first.measure, name) for each in alike], axis=0).tolist() for name in names}
    return {
        "run": number,
        "name": display_name(first.model),
        "mode": first.mode,
        "measure": MEASURES.get(first.measure, first.measure),
        "signed": first.measure in SIGNED,
        **meaning_of(first),
        "acts": "taken away" if first.tokens[0].kind == "head" else ACTS.get(first.mode, "hidden"),
        "merged": MERGED.get(first.measure, "sum"),
        "layers": list(first.layers),
        "prompts": len(alike),
        "left": len(maps) - len(alike),
        "series": series,
    }


def _summed(found: ImpactMap, measure: str, modality: str) -> Any:
    chosen = [place for place, source in enumerate(found.tokens) if source.modality == modality]
    values = found.values(measure)[:, chosen]
    if MERGED.get(measure) is None:
        return np.nansum(values, axis=1)
    return np.nan_to_num(values).max(axis=1) if MERGED[measure] == "largest" else np.nan_to_num(values).mean(axis=1)
