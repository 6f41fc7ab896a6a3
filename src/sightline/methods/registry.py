"""The methods that --method and `sightline list methods` know."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.methods.base import METHODS, Method, parse_spec

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks


def known_methods() -> dict[str, type[Method]]:
    """The registered methods by name, from every package that has some."""
    for package in ("sightline.methods", "sightline.probes.grounding"):
        if find_spec(package) is not None:
            importlib.import_module(package)
    return METHODS


def find_method(spec: str | None, sinks: Sinks | None = None) -> Method | None:
    """The method of a --method option; None without one and for `none`. InputError for a spec that names none.

    sinks: the model's, whose dimensions and threshold a method takes that has these fields and is not told otherwise.
    """
    if spec is None:
        return None
    known_methods()
    method = parse_spec(spec, {} if sinks is None else {"dims": sinks.dims, "tau": sinks.tau})
    if method is not None:
        method.require_complete()
    return method


def find_sinks_file(path: Path | None) -> Sinks | None:
    """The sinks of a --sinks option; InputError for a file that holds none."""
    if path is None:
        return None
    from sightline.probes.sinks import read_sinks

    return read_sinks(path)
