"""Attention sinks: tokens that draw attention and mean nothing, found on the loaded model and checked against it."""

from sightline.sinks.check import FACTOR
from sightline.sinks.known import KNOWN, known_sinks
from sightline.sinks.result import LayerSinks, Sinks, read_sinks
from sightline.sinks.search import Search, find_sinks
from sightline.sinks.watch import TAU, SinkWatch, phi, watch_sinks

__all__ = [
    "FACTOR",
    "KNOWN",
    "TAU",
    "LayerSinks",
    "Search",
    "SinkWatch",
    "Sinks",
    "find_sinks",
    "known_sinks",
    "phi",
    "read_sinks",
    "watch_sinks",
]
