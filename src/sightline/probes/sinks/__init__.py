"""Attention sinks: tokens that draw attention and mean nothing, found on the loaded model and checked against it."""

from sightline.attention.sink_tracker import TAU, SinkTracker, phi, track_sinks
from sightline.probes.sinks.check import FACTOR
from sightline.probes.sinks.known import KNOWN, known_sinks
from sightline.probes.sinks.result import LayerSinks, Sinks, read_sinks
from sightline.probes.sinks.search import Search, find_sinks

__all__ = [
    "FACTOR",
    "KNOWN",
    "TAU",
    "LayerSinks",
    "Search",
    "SinkTracker",
    "Sinks",
    "find_sinks",
    "known_sinks",
    "phi",
    "read_sinks",
    "track_sinks",
]
