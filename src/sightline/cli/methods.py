"""The methods that --method and `sightline list methods` know."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

from sightline.method import METHODS, Method, parse_spec


def known_methods() -> dict[str, type[Method]]:
    """The registered methods by name, from every package that has some."""
    for package in ("sightline.steer",):
        if find_spec(package) is not None:
            importlib.import_module(package)
    return METHODS


def find_method(spec: str | None) -> Method | None:
    """The method of a --method option; None without one and for `none`. InputError for a spec that names none."""
    if spec is None:
        return None
    known_methods()
    return parse_spec(spec)
