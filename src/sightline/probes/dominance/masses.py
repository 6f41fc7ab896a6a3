"""Attention masses of one sample, and the indices made of them (arXiv 2508.10552).

    A_T, A_O   attention that the text and the other input tokens receive, averaged over heads and query rows
    MDI   = (A_T / |T|) / (A_O / |O|)                                   above 1: text dominates
    AEI   = P_T / Q_T,   P_T = A_T / (A_T + A_O),   Q_T = |T| / (|T| + |O|)

For one sample and layer the two say the same: AEI = MDI / (1 + Q_T (MDI - 1)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

TEXT = "text"
SINKS = "_sinks"
"""Ending of the name of a group's share that falls on sink positions: `text_sinks`."""

PART = "#"
"""Stands between a modality and the number of one of several images: `image#0`, a part of `image`."""


def modality_dominance(text_mass: float, text_tokens: float, other_mass: float, other_tokens: float) -> float | None:
    """MDI; None where it is not defined: no token of one side, or no attention on the other modality."""
    if text_tokens <= 0 or other_tokens <= 0 or other_mass <= 0:
        return None
    return (text_mass / text_tokens) / (other_mass / other_tokens)


def attention_efficiency(text_mass: float, text_tokens: float, other_mass: float, other_tokens: float) -> float | None:
    """AEI of the text; None where it is not defined."""
    if text_tokens <= 0 or text_mass + other_mass <= 0:
        return None
    return (text_mass / (text_mass + other_mass)) / (text_tokens / (text_tokens + other_tokens))


@dataclass(frozen=True, slots=True)
class LayerMass:
    """Mean attention mass that a layer's query rows give to each group of input keys.

    masses: by group: `text`, `image`, `video`, `audio`, and `text_sinks`, ... for the part of it that is on sinks.
    sinks: how many tokens of each group are sinks in this layer, where they were looked for layer by layer.
    selected: share of each group among the input keys that an indexer selected, in models whose attention is sparse.
    metrics: the means over query rows of metrics of one's own, by name.
    heads: the masses of each head, whose mean `masses` is; empty where they were not kept.
    """

    layer: int
    masses: Mapping[str, float]
    sinks: Mapping[str, int] = field(default_factory=dict)
    selected: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    heads: tuple[Mapping[str, float], ...] = ()

    def of_heads(self) -> list[LayerMass]:
        """Each head as if the layer had no other."""
        return [replace(self, masses=masses, selected={}, metrics={}, heads=()) for masses in self.heads]


@dataclass(frozen=True)
class SampleDominance:
    """What was measured on one sample.

    queries: the query set. rows: how many query rows were averaged. tokens: input tokens by group, sinks apart, as in
    `LayerMass.masses`. layers: one entry a layer with softmax attention.
    """

    queries: str
    rows: int
    tokens: Mapping[str, int]
    layers: tuple[LayerMass, ...] = field(default_factory=tuple)

    def mdi(self, layer: LayerMass, with_sinks: bool = True) -> float | None:
        """Modality Dominance Index of a layer; without sinks they are taken out of masses and counts alike."""
        return modality_dominance(*self._sides(layer, with_sinks))

    def aei(self, layer: LayerMass, with_sinks: bool = True) -> float | None:
        """Attention Efficiency Index of the text in a layer."""
        return attention_efficiency(*self._sides(layer, with_sinks))

    def by_image(self, layer: LayerMass) -> dict[int, float | None]:
        """MDI of the text against each of several images alone; empty for one image."""
        text = layer.masses.get(TEXT, 0.0), float(self.tokens.get(TEXT, 0))
        parts = [name for name in self.tokens if PART in name]
        return {
            int(name.partition(PART)[2]): modality_dominance(*text, layer.masses.get(name, 0.0), self.tokens[name])
            for name in parts
            if self.tokens[name]
        }

    def _sides(self, layer: LayerMass, with_sinks: bool) -> tuple[float, float, float, float]:
        text_mass, text_tokens, other_mass, other_tokens = 0.0, 0.0, 0.0, 0.0
        for group in _groups(self.tokens):
            mass, tokens = layer.masses.get(group, 0.0), float(self.tokens.get(group, 0))
            if not with_sinks:
                mass -= layer.masses.get(group + SINKS, 0.0)
                tokens -= layer.sinks.get(group + SINKS, self.tokens.get(group + SINKS, 0))
            if group == TEXT:
                text_mass, text_tokens = mass, tokens
            else:
                other_mass, other_tokens = other_mass + mass, other_tokens + tokens
        return text_mass, text_tokens, other_mass, other_tokens

    def to_dict(self) -> dict[str, Any]:
        """As a run folder keeps it: masses and counts, and the indices they give."""
        layers = [
            {
                "layer": entry.layer,
                "mdi": self.mdi(entry),
                "aei": self.aei(entry),
                "mdi_no_sinks": self.mdi(entry, with_sinks=False),
                "masses": dict(entry.masses),
            }
            | ({"sinks": dict(entry.sinks)} if entry.sinks else {})
            | ({"selected": dict(entry.selected)} if entry.selected else {})
            | ({"metrics": dict(entry.metrics)} if entry.metrics else {})
            | ({"heads": [dict(masses) for masses in entry.heads]} if entry.heads else {})
            for entry in self.layers
        ]
        return {"queries": self.queries, "rows": self.rows, "tokens": dict(self.tokens), "layers": layers}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SampleDominance:
        """The inverse of `to_dict`."""

        def part(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
            return dict(entry[name]) if entry.get(name) else _NOTHING

        layers = tuple(
            LayerMass(
                int(entry["layer"]),
                dict(entry["masses"]),
                part(entry, "sinks"),
                part(entry, "selected"),
                part(entry, "metrics"),
                tuple(dict(masses) for masses in entry.get("heads", ())),
            )
            for entry in document["layers"]
        )
        return cls(str(document["queries"]), int(document["rows"]), dict(document["tokens"]), layers)


_NOTHING: Mapping[str, Any] = {}
"""Of the fields that most layers have not, one for all: a long run has millions of layers."""


def is_modality(name: str) -> bool:
    """Whether a group is a modality, and not its sinks or one of several images."""
    return not name.endswith(SINKS) and PART not in name


def _groups(tokens: Mapping[str, int]) -> list[str]:
    return [name for name in tokens if is_modality(name)]
