"""The methods that the live page offers as switches."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from sightline.methods.registry import known_methods


def describe_methods() -> list[dict[str, Any]]:
    """Name, first line and fields of each method that needs nothing but its fields."""
    found = []
    for name, kind in sorted(known_methods().items()):
        if any(field.default is dataclasses.MISSING for field in dataclasses.fields(kind)):
            continue
        fields = [
            {"name": field.name, "default": field.default, "help": field.metadata.get("help", "")}
            for field in dataclasses.fields(kind)
        ]
        found.append({"name": name, "about": (inspect.getdoc(kind) or "").split("\n")[0], "fields": fields})
    return found
