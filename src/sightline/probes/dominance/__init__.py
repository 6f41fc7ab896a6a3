"""Measure how much each layer listens to the text rather than to the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.lazy import names_of

if TYPE_CHECKING:
    from sightline.probes.attention_maps import MapReader, read_maps
    from sightline.probes.dominance.dominance import Dominance
    from sightline.probes.dominance.masses import LayerMass, SampleDominance, attention_efficiency, modality_dominance
    from sightline.probes.dominance.probe import DominanceProbe
    from sightline.probes.dominance.published import PUBLISHED, beside_published, identity_notes
    from sightline.probes.dominance.queries import QUERIES, check_queries, name_of, words
    from sightline.probes.dominance.result import DominanceResult, Summary, aggregate, summarise
    from sightline.probes.dominance.stages import SCHEMES, stage_layers
    from sightline.probes.map_values import MapGrid, SampleMaps
else:
    __getattr__ = names_of(
        __name__,
        {
            "sightline.probes.attention_maps": "MapReader read_maps",
            "sightline.probes.dominance.dominance": "Dominance",
            "sightline.probes.dominance.masses": "LayerMass SampleDominance attention_efficiency modality_dominance",
            "sightline.probes.dominance.probe": "DominanceProbe",
            "sightline.probes.dominance.published": "PUBLISHED beside_published identity_notes",
            "sightline.probes.dominance.queries": "QUERIES check_queries name_of words",
            "sightline.probes.dominance.result": "DominanceResult Summary aggregate summarise",
            "sightline.probes.dominance.stages": "SCHEMES stage_layers",
            "sightline.probes.map_values": "MapGrid SampleMaps",
        },
    )

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
    "beside_published",
    "check_queries",
    "identity_notes",
    "modality_dominance",
    "name_of",
    "read_maps",
    "stage_layers",
    "summarise",
    "words",
]
