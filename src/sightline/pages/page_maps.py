"""Maps as the page carries them: coarse enough for its size, their values as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.knockout.measures import ACTS, MEASURES, SIGNED
from sightline.knockout.result import ImpactMap
from sightline.probes.map_values import MapGrid, SampleMaps, pack

Array = NDArray[np.float32]
Words = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class _Shown:
    """Attention maps on their way into the page. layers: how many there were, once some were left out."""

    maps: SampleMaps
    words: Words
    prompt: Words
    grounding: Sequence[float | None]
    layers: int = 0
    notes: tuple[str, ...] = ()


def attention_maps(document: Mapping[str, Any], budget: int) -> dict[str, Any]:
    """The page's maps of one sample, from what `measure` keeps, in about `budget` bytes of text.

    What does not fit is left out in this order: heads of each word, layers, heads, patches apart, words. "notes" says
    so. Raises KeyError, TypeError or ValueError for what is no such document.
    """
    shown = _Shown(SampleMaps.from_dict(document), document["words"], document["prompt"], document.get("grounding", ()))
    if thoughts := int(document.get("thoughts") or 0):
        shown = replace(shown, notes=(f"of the answer, the first {thoughts} tokens are thoughts",))
    for reduce in (_mean_heads, _thin(16), _thin(12), _no_heads, _thin(8), _pool, _few(24), _pool, _few(8), _thin(4)):
        if _values(shown) <= 2 * budget:  # not worth packing before
            document = _document(shown)
            if _size(document) <= budget:
                return document
        shown = reduce(shown)
    return _document(shown)


def _values(shown: _Shown) -> int:
    heads = shown.maps.heads
    return shown.maps.mean.size + (0 if heads is None else heads.size)


def _document(shown: _Shown) -> dict[str, Any]:
    maps = shown.maps
    heads = maps.heads
    return {
        "kind": "attention",
        "layers": list(maps.layers),
        "words": [list(word) for word in islice(shown.words, maps.mean.shape[0])],
        "prompt": [list(word) for word in shown.prompt],
        "grounding": list(shown.grounding[: maps.mean.shape[0]]),
        "grids": [_grid(grid) for grid in maps.grids],
        "mean": pack(maps.mean, 1),
        "heads": None if heads is None else pack(heads, 1) | {"grids": [_grid(grid) for grid in maps.head_grids]},
        "sinks": _runs(maps.sinks) if maps.sinks.any() else None,
        "hasSinks": maps.has_sinks,
        "notes": list(shown.notes),
    }


def _grid(grid: MapGrid) -> dict[str, Any]:
    """A grid with its columns, the first alone where they follow on each other."""
    cells = grid.cells.ravel()
    is_run = bool(len(cells)) and cells[0] >= 0 and np.array_equal(cells, np.arange(cells[0], cells[0] + len(cells)))
    return {
        "image": grid.index,
        "rows": int(grid.cells.shape[0]),
        "cols": int(grid.cells.shape[1]),
        "cells": int(cells[0]) if is_run else cells.tolist(),
        "box": None if grid.box is None else [round(edge, 5) for edge in grid.box],
        "frame": grid.frame,
        "modality": grid.modality,
        "pooled": grid.pooled,
    }


def _runs(bits: NDArray[np.bool_]) -> list[list[int]]:
    """The marked columns of each layer."""
    return [np.flatnonzero(row).tolist() for row in bits]


def _size(document: Mapping[str, Any]) -> int:
    packed = [part for part in (document["mean"], document["heads"]) if part is not None]
    text = sum(len(word[0]) + 10 for name in ("words", "prompt") for word in document[name])
    cells = sum(4 * len(grid["cells"]) for grid in document["grids"] if isinstance(grid["cells"], list))
    return sum(len(part["bytes"]) + len(part["scale"]) for part in packed) + text + cells


def _mean_heads(shown: _Shown) -> _Shown:
    heads = shown.maps.heads
    if heads is None or heads.shape[0] == 1:
        return shown
    kept = replace(shown.maps, heads=heads.mean(0, keepdims=True))
    return replace(shown, maps=kept, notes=(*shown.notes, "maps by head are means over the answer"))


def _no_heads(shown: _Shown) -> _Shown:
    if shown.maps.heads is None:
        return shown
    notes = (*(note for note in shown.notes if "by head" not in note), "maps by head are left out")
    return replace(shown, maps=replace(shown.maps, heads=None, head_grids=()), notes=notes)


def _thin(most: int) -> Any:
    def thin(shown: _Shown) -> _Shown:
        maps, count = shown.maps, len(shown.maps.layers)
        if count <= most:
            return shown
        chosen = sorted({round(place * (count - 1) / (most - 1)) for place in range(most)})
        kept = replace(
            maps,
            layers=tuple(maps.layers[place] for place in chosen),
            mean=maps.mean[:, chosen],
            heads=None if maps.heads is None else maps.heads[:, chosen],
            sinks=maps.sinks[chosen],
        )
        whole = shown.layers or count
        notes = (*(note for note in shown.notes if "layers" not in note), f"{len(chosen)} of {whole} layers")
        return replace(shown, maps=kept, layers=whole, notes=notes)

    return thin


def _few(most: int) -> Any:
    def few(shown: _Shown) -> _Shown:
        count = shown.maps.mean.shape[0]
        if count <= most:
            return shown
        notes = (*(note for note in shown.notes if "words" not in note), f"the first {most} words of the answer")
        return replace(shown, maps=replace(shown.maps, mean=shown.maps.mean[:most]), notes=notes)

    return few


def _pool(shown: _Shown) -> _Shown:
    """Squares of 2 x 2 patches summed."""
    maps = shown.maps
    texts = len(maps.positions)
    group = np.full(maps.mean.shape[2], -1, dtype=np.int64)
    group[:texts] = np.arange(texts)
    grids, start = [], texts
    for grid in maps.grids:
        rows, columns = grid.cells.shape
        cells = np.full(((rows + 1) // 2, (columns + 1) // 2), -1, dtype=np.int64)
        for row, column in zip(*np.nonzero(grid.cells >= 0), strict=True):
            spot = row // 2, column // 2
            if cells[spot] < 0:
                cells[spot] = start
                start += 1
            group[grid.cells[row, column]] = cells[spot]
        grids.append(replace(grid, cells=cells, pooled=2 * grid.pooled))
    mean = np.zeros((*maps.mean.shape[:2], start), dtype=np.float32)
    for column in np.flatnonzero(group >= 0):
        mean[:, :, group[column]] += maps.mean[:, :, column]
    sinks = np.zeros((maps.sinks.shape[0], start), dtype=np.bool_)
    for layer, row in enumerate(maps.sinks):
        sinks[layer, group[np.flatnonzero(row & (group >= 0))]] = True
    kept = replace(maps, mean=mean, sinks=sinks, grids=tuple(grids))
    side = max((grid.pooled for grid in grids), default=2)
    notes = (*(note for note in shown.notes if "patches" not in note), f"{side} x {side} patches as one")
    return replace(shown, maps=kept, notes=notes)


# Impact -------------------------------------------------------------------------------------------------------------


AFTER = "norm_registers"
"""A measure that stands beside the map's own: the same, with test-time registers."""


def impact_maps(found: Sequence[ImpactMap]) -> dict[str, Any]:
    """The page's maps of one prompt's impact, a word for each map; those of other sources than the first are left out.

    So are sources that are no words and have no place in a picture, as a resampler's queries; "notes" says how many.

    Values of signed measures are bytes about 127.
    """
    first = found[0]
    alike = [each for each in found if each.tokens[: len(first.tokens)] == first.tokens and each.layers == first.layers]
    measure = first.measure
    shown = [(_word(each), each.values(measure)) for each in alike]
    if AFTER in first.maps:
        shown = [("before", first.values()), ("with registers", first.values(AFTER))]
    values = np.stack([each[:, : len(first.tokens)] for _, each in shown])
    known = np.where(np.isfinite(values), values, 0.0).astype(np.float32)
    texts = [place for place, source in enumerate(first.tokens) if source.modality in ("text", "head")]
    patches = [place for place, source in enumerate(first.tokens) if place not in texts and source.box]
    order = [*texts, *patches]
    boxes = [
        [number, first.tokens[place].image or 0, *(round(edge, 5) for edge in first.tokens[place].box or ())]
        for number, place in enumerate(order)
        if place in set(patches)
    ]
    notes = [] if len(alike) == len(found) else [f"the first {len(alike)} of {len(found)} words"]
    if placeless := len(first.tokens) - len(order):
        notes.append(f"{placeless} of {len(first.tokens)} have no known place in a picture and are left out")
    return {
        "kind": "impact",
        "mode": first.mode,
        "acts": "taken away" if first.tokens[0].kind == "head" else ACTS.get(first.mode, "hidden"),
        "measure": MEASURES.get(measure, measure),
        "signed": measure in SIGNED,
        "layers": list(first.layers),
        "words": [[word, False] for word, _ in shown],
        "prompt": [[first.tokens[place].text, False] for place in texts],
        "grids": [],
        "boxes": boxes,
        "mean": _signed_pack(known[:, :, order]) if measure in SIGNED else pack(known[:, :, order], 1),
        "heads": None,
        "sinks": None,
        "hasSinks": False,
        "notes": notes,
    }


def _word(found: ImpactMap) -> str:
    """What the row predicts, and beside it the word that is followed where that is another."""
    text = str(found.baseline.get("text") or "answer")
    return f"{found.baseline['predicted_text']}; followed: {text}" if "predicted_text" in found.baseline else text


def _signed_pack(values: Array) -> dict[str, Any]:
    """As `pack`, one scale for all of a word's layers: value = scale s |s| with s = (byte - 127) / 127."""
    import base64
    import zlib

    scale = np.abs(values).max(axis=2, initial=0.0).astype("<f4")
    share = np.divide(values, scale[:, :, None], out=np.zeros_like(values), where=scale[:, :, None] > 0)
    levels = np.rint(np.sign(share) * np.sqrt(np.abs(share).clip(0, 1)) * 127 + 127).astype(np.uint8)
    return {
        "shape": list(values.shape),
        "scale": base64.b64encode(scale.tobytes()).decode(),
        "bytes": base64.b64encode(zlib.compress(levels.tobytes(), 6)).decode(),
    }
