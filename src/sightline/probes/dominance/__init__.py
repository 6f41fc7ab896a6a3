"""Measure how much each layer listens to the text rather than to the image."""

from sightline.probes.attention_maps import MapReader, read_maps
from sightline.probes.dominance.dominance import Dominance
from sightline.probes.dominance.masses import LayerMass, SampleDominance, attention_efficiency, modality_dominance
from sightline.probes.dominance.probe import DominanceProbe
from sightline.probes.dominance.published import PUBLISHED, compare, identity_notes
from sightline.probes.dominance.queries import QUERIES, words
from sightline.probes.dominance.result import DominanceResult, Summary, aggregate, summarise
from sightline.probes.dominance.stages import SCHEMES, stage_layers
from sightline.probes.map_values import MapGrid, SampleMaps

__all__ = [
    "PUBLISHED",
    "QUERIES",
    "SCHEMES",
    "Dominance",
    "DominanceProbe",
    "DominanceResult",
    "LayerMass",
    "MapGrid",
    "MapReader",
    "SampleDominance",
    "SampleMaps",
    "Summary",
    "aggregate",
    "attention_efficiency",
    "compare",
    "identity_notes",
    "modality_dominance",
    "read_maps",
    "stage_layers",
    "summarise",
    "words",
]
