"""Attention sinks: tokens that draw attention and mean nothing, found on the loaded model and checked against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.attention.sink_tracker import TAU, SinkTracker, phi, track_sinks
    from sightline.probes.sinks.check import FACTOR, SampleCheck
    from sightline.probes.sinks.find import Survey
    from sightline.probes.sinks.known import KNOWN, known_sinks
    from sightline.probes.sinks.result import LayerSinks, Sinks, read_sinks
    from sightline.probes.sinks.search import Search, search_sinks
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.attention.sink_tracker": "TAU SinkTracker phi track_sinks",
            "sightline.probes.sinks.check": "FACTOR SampleCheck",
            "sightline.probes.sinks.find": "Survey",
            "sightline.probes.sinks.known": "KNOWN known_sinks",
            "sightline.probes.sinks.result": "LayerSinks Sinks read_sinks",
            "sightline.probes.sinks.search": "Search search_sinks",
        },
    )

__all__ = [
    "FACTOR",
    "KNOWN",
    "TAU",
    "LayerSinks",
    "SampleCheck",
    "Search",
    "SinkTracker",
    "Sinks",
    "Survey",
    "known_sinks",
    "phi",
    "read_sinks",
    "search_sinks",
    "track_sinks",
]
