"""The methods that --method and `sightline list methods` know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.methods.base import METHODS, Method, check_field, parse_spec
from sightline.methods.listing import listed_methods
from sightline.probes import sinks as sink_probes

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks


def known_methods() -> Mapping[str, type[Method]]:
    """The methods by name, those of other packages among them; each is imported when it is looked up."""
    return METHODS


def check_method(spec: str) -> None:
    """InputError for a spec that begins with no method's name, or names a field that the method has not.

    Torch is not imported for it: the fields are those of the kept list.
    """
    name, _, written = spec.strip().partition(":")
    METHODS.check(name, "none")
    if written and name in METHODS.homes:
        # A name that another package took stands in no list.
        for entry in (entry for entry in listed_methods() if entry["name"] == name):
            known = [field["name"] for field in entry["fields"]]
            for part in filter(None, map(str.strip, written.split(","))):
                check_field(name, part.partition("=")[0], known)


def takes_sinks(spec: str) -> bool:
    """Whether the method of a spec has sink dimensions among its fields."""
    kind = METHODS.get(spec.strip().partition(":")[0])
    return kind is not None and any(field.name == "dims" for field in dataclasses.fields(kind))


def find_method(spec: str | None, sinks: Sinks | None = None) -> Method | None:
    """The method of a --method option; None without one and for `none`. InputError for a spec that names none.

    sinks: the model's, whose dimensions and threshold a method takes that has these fields and is not given others.
    """
    if spec is None:
        return None
    method = parse_spec(spec, {} if sinks is None else {"dims": sinks.dims, "tau": sinks.tau})
    if method is not None:
        method.require_complete()
    return method


def find_sinks_file(path: Path | None) -> Sinks | None:
    """The sinks of a --sinks option; InputError for a file that holds none."""
    if path is None:
        return None
    return sink_probes.read_sinks(path)
