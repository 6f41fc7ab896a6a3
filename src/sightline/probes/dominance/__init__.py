"""Measure how much each layer listens to the text rather than to the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
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

__getattr__ = names_of(
    __name__,
    {
        "Dominance": "sightline.probes.dominance.dominance",
        "DominanceProbe": "sightline.probes.dominance.probe",
        "DominanceResult": "sightline.probes.dominance.result",
        "LayerMass": "sightline.probes.dominance.masses",
        "MapGrid": "sightline.probes.map_values",
        "MapReader": "sightline.probes.attention_maps",
        "PUBLISHED": "sightline.probes.dominance.published",
        "QUERIES": "sightline.probes.dominance.queries",
        "SCHEMES": "sightline.probes.dominance.stages",
        "SampleDominance": "sightline.probes.dominance.masses",
        "SampleMaps": "sightline.probes.map_values",
        "Summary": "sightline.probes.dominance.result",
        "aggregate": "sightline.probes.dominance.result",
        "attention_efficiency": "sightline.probes.dominance.masses",
        "compare": "sightline.probes.dominance.published",
        "identity_notes": "sightline.probes.dominance.published",
        "modality_dominance": "sightline.probes.dominance.masses",
        "read_maps": "sightline.probes.attention_maps",
        "stage_layers": "sightline.probes.dominance.stages",
        "summarise": "sightline.probes.dominance.result",
        "words": "sightline.probes.dominance.queries",
    },
)
