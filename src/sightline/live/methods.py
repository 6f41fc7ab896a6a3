"""The methods that the live page offers as switches, each field with what moves it: a slider, a choice or words."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from typing import Any

from sightline.errors import SightlineError
from sightline.methods.registry import find_method, known_methods
from sightline.probes.sinks import Sinks

_RANGE = re.compile(r"(-?[0-9.]+)(?: \([a-z ]+\))? to (?:below )?([0-9.]+)(?! of)")
"""The range that a field's help gives, as "0 to 1" and "0 (none) to below 1"."""

SEEDS = 20
TOWER_LAYERS = 12
"""Layers of the vision tower, counted from its end, that a slider reaches."""


def describe_methods(layers: int = 32, sinks: Sinks | None = None) -> list[dict[str, Any]]:
    """Name, first line and fields of each method that needs no argument.

    layers: of the decoder, which bound the sliders of layers. sinks: the model's, for methods that take their
    dimensions. "needs" is a sentence on what must be filled in first, None for nothing.
    """
    found = []
    for name, kind in sorted(known_methods().items()):
        fields = dataclasses.fields(kind)
        if any(field.default is dataclasses.MISSING for field in fields):
            continue
        hints = typing.get_type_hints(kind)
        about = (inspect.getdoc(kind) or "").split("\n")[0]
        described = [_field(field, hints[field.name], layers) for field in fields]
        found.append({"name": name, "about": about, "needs": _needs(name, sinks), "fields": described})
    return found


def _needs(name: str, sinks: Sinks | None) -> str | None:
    try:
        find_method(name, sinks)
    except SightlineError as error:
        return str(error)
    return None


def _field(field: dataclasses.Field[Any], hint: Any, layers: int) -> dict[str, Any]:
    text, default = str(field.metadata.get("help", "")), field.default
    entry: dict[str, Any] = {"name": field.name, "default": default, "help": text, "kind": "text"}
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = [part for part in parts if part is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        return entry | {"kind": "choice", "choices": list(typing.get_args(hint))}
    if kinds == [bool]:
        return entry | {"kind": "switch"}
    if kinds not in ([int], [float]):
        return entry
    low, high = _bounds(field.name, text, default, layers)
    is_whole = kinds == [int]
    step = 1 if is_whole else _step(high - low)
    return entry | {"kind": "whole" if is_whole else "number", "low": low, "high": high, "step": step}


def _bounds(name: str, text: str, default: Any, layers: int) -> tuple[float, float]:
    """Where a slider begins and ends; what is typed may lie beyond."""
    if name == "seed":
        return 0, SEEDS
    if "tower" in text and isinstance(default, int) and default < 0:
        return -TOWER_LAYERS, -1
    if "layer" in name or name == "K":
        return 0, layers - 1
    given = _RANGE.search(text)
    value = 1.0 if default is None else float(default)
    if given and float(given[1]) <= value <= float(given[2]):
        return float(given[1]), float(given[2])
    least = 1 if "1 or more" in text or "1 and up" in text else 0
    return least, max(10, 2 * int(value)) if isinstance(default, int) else max(1.0, 3 * value)


def _step(span: float) -> float:
    """A hundredth of the way, as 1, 2 or 5 of a power of ten."""
    return next(
        (step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if step * 150 >= span), 5.0
    )
