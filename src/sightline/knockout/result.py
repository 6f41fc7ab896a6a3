"""ImpactMap: what hiding each source does at each layer, with what it was measured under; as JSON, table and figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError, SightlineError
from sightline.files.json import html_table
from sightline.knockout.source import Source

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

MEASURES: dict[str, str] = {
    "l2": "L2 distance of the layer's output",
    "cosine": "cosine distance of the layer's output",
    "logit": "change of the logit",
    "prob": "change of the probability",
    "logprob": "change of the log-probability (nats)",
    "kl": "KL divergence (nats)",
    "flip": "the answer's token changes (1: yes)",
    "l2_heads": "L2 distance of a head's output, before the output projection",
    "relevancy": "relevance by gradients (Chefer et al.)",
    "rollout": "attention rollout",
    "gradient_attention": "gradient x attention",
    "lens": "confidence in the word, by the unembedding",
    "locate": "attention of the heads that look at one place",
    "recovered": "share of the effect recovered",
    "recovered_gradient": "share of the effect recovered, estimated by the gradient",
    "gradient": "change of the log-probability, estimated by the gradient (nats)",
}
"""Each measure in words. Changes are hidden less untouched: negative where the source speaks for the token."""

SIGNED = ("logit", "prob", "logprob", "gradient", "recovered", "recovered_gradient")
"""Measures that fall below zero."""

MAIN = ("logprob", "kl", "l2", "cosine")
"""Measures by what a reader wants first."""


@dataclass(frozen=True, eq=False)
class ImpactMap:
    """The effect of hiding each source, layer by layer, on one row.

    Attributes:
        model: its name.
        mode: "local" (the layer's own output), "causal" (the model's end), "vision" (the picture is masked), "tower"
            (cut inside the vision tower), "deepstack" (features injected at a layer are left out), "patch" (states of
            the pair's one in the other's pass), or a reading, see `Study`.
        row: position of the row that is looked at; it predicts the token behind it. "all" for the mean over rows.
        layers: the layers that the maps' first axis goes through.
        tokens: the sources of the maps' last axis.
        maps: by measure, float64 [layers, tokens], per head [layers, heads, tokens]; NaN where it is not defined, as
            for a layer without attention, or a row that would see nothing.
        baseline: of the untouched model: "token" (id), "text", "logit", "prob", "logprob" of what the row predicts.
        controls: random sources of equal size; control_maps: their maps, as `maps`.
        settings: all that the numbers depend on.
        reference: by scope ("row", "every-row"), the effects of hiding all of the image at every layer, if asked for.
    """

    model: str
    mode: str
    row: int | str
    layers: tuple[int, ...]
    tokens: tuple[Source, ...] = field(repr=False)
    maps: Mapping[str, Array] = field(repr=False)
    baseline: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    controls: tuple[Source, ...] = field(default=(), repr=False)
    control_maps: Mapping[str, Array] = field(default_factory=dict, repr=False)
    reference: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for maps, sources in ((self.maps, self.tokens), (self.control_maps, self.controls)):
            for name, values in maps.items():
                if (values.shape[0], values.shape[-1]) != (len(self.layers), len(sources)):
                    raise ValueError(f"the map {name} is {values.shape} for {len(self.layers)} x {len(sources)}")

    @property
    def measure(self) -> str:
        """The measure that is shown where none is asked for."""
        return next((name for name in MAIN if name in self.maps), next(iter(self.maps)))

    def values(self, measure: str | None = None) -> Array:
        """[layers, tokens] of one measure; per-head maps are averaged over heads. InputError for one that it lacks."""
        name = measure or self.measure
        if name not in self.maps:
            raise InputError(f"There is no '{name}' in a {self.mode} map; it has {', '.join(self.maps)}.")
        found = self.maps[name]
        return found if found.ndim == 2 else found.mean(1)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `sightline impact`; what is not defined is None."""
        found: dict[str, Any] = {
            "model": self.model,
            "mode": self.mode,
            "row": self.row,
            "layers": len(self.layers),
            "layer_numbers": list(self.layers),
            "tokens": [source.to_dict() for source in self.tokens],
            "maps": _plain(self.maps),
            "baseline": dict(self.baseline),
            "settings": dict(self.settings),
        }
        if self.controls:
            sources = [source.to_dict() for source in self.controls]
            found["controls"] = {"tokens": sources, "maps": _plain(self.control_maps)}
        if self.reference:
            found["reference"] = {"image": {scope: dict(effects) for scope, effects in self.reference.items()}}
        return found

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ImpactMap:
        """The map that a document tells of; InputError where it is none."""
        try:
            controls = document.get("controls") or {"tokens": (), "maps": {}}
            return cls(
                model=str(document["model"]),
                mode=str(document["mode"]),
                row=document["row"],
                layers=tuple(document.get("layer_numbers", range(document["layers"]))),
                tokens=tuple(map(_source, document["tokens"])),
                maps=_arrays(document["maps"]),
                baseline=dict(document.get("baseline") or {}),
                settings=dict(document.get("settings") or {}),
                controls=tuple(map(_source, controls["tokens"])),
                control_maps=_arrays(controls["maps"]),
                reference=dict((document.get("reference") or {}).get("image") or {}),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"This is no document of `sightline impact` ({reason}).") from error

    def _repr_html_(self) -> str:
        """The sources that do most, mean over layers, as a table for notebooks."""
        rows = [
            [source.text, source.modality, "" if source.row is None else f"{source.row}, {source.col}", f"{effect:.3g}"]
            for source, effect in self.top(self.layers, 10)
        ]
        title = f"{self.model}: {self.mode} impact of {len(self.tokens)} sources in {len(self.layers)} layers"
        told = self.baseline.get("text")
        note = "" if told is None else f"The model predicts “{told}”."
        columns = ("hidden", "modality", "patch", MEASURES.get(self.measure, self.measure))
        return html_table(title, columns, rows, note)

    def to_pandas(self) -> pd.DataFrame:
        """A row a layer and source (controls behind them): position, text, modality, patch row and column, measures.

        Per-head measures have a column a head: l2_head0, l2_head1, ... Undefined values are NaN.
        """
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(list(self._rows()))
        return frame

    def to_csv(self, path: str | Path) -> Path:
        """Writes `to_pandas` as UTF-8; cells without a value are empty. SightlineError when it cannot be written."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.to_pandas().to_csv(path, index=False, encoding="utf-8")
        except OSError as error:
            raise SightlineError(f"{path} could not be written ({error.strerror or error}).") from error
        return path

    def plot(self, measure: str | None = None) -> Any:
        """A matplotlib figure: layers by sources, one measure. `sightline impact` draws more of them."""
        from matplotlib.figure import Figure

        name = measure or self.measure
        values = self.values(name)
        figure = Figure(figsize=(min(14.0, 4.0 + 0.16 * len(self.tokens)), 4.2), layout="constrained")
        axes = figure.subplots()
        low, high, colours = colour_range(name, values)
        shown = axes.imshow(values, aspect="auto", origin="lower", cmap=colours, vmin=low, vmax=high)
        axes.set_yticks(range(len(self.layers)), [str(layer) for layer in self.layers])
        axes.set(xlabel="hidden tokens, in the order of the prompt", ylabel="layer", title=f"{self.model}: {self.mode}")
        figure.colorbar(shown, ax=axes, label=MEASURES.get(name, name))
        return figure

    def top(self, layers: Sequence[int], count: int = 5, measure: str | None = None) -> list[tuple[Source, float]]:
        """The sources whose effect, averaged over these layers, is largest in size; undefined ones are left out."""
        places = [place for place, layer in enumerate(self.layers) if layer in set(layers)]
        values = self.values(measure)[places]
        known = np.isfinite(values)
        counts = known.sum(0)
        means = np.where(known, values, 0.0).sum(0) / np.maximum(counts, 1)
        order = sorted((place for place in range(len(self.tokens)) if counts[place]), key=lambda p: -abs(means[p]))
        return [(self.tokens[place], float(means[place])) for place in order[:count]]

    def _rows(self) -> Iterator[dict[str, Any]]:
        for sources, maps in ((self.tokens, self.maps), (self.controls, self.control_maps)):
            for place, layer in enumerate(self.layers):
                for number, source in enumerate(sources):
                    yield {
                        "layer": layer,
                        "position": source.position,
                        "positions": "+".join(map(str, source.positions)),
                        "text": source.text.encode("utf-8", "backslashreplace").decode(),
                        "modality": source.modality,
                        "kind": source.kind,
                        "image": source.image,
                        "patch_row": source.row,
                        "patch_col": source.col,
                        **_cells(maps, place, number),
                    }


def _cells(maps: Mapping[str, Array], layer: int, number: int) -> dict[str, float]:
    cells: dict[str, float] = {}
    for name, values in maps.items():
        if values.ndim == 2:
            cells[name] = float(values[layer, number])
        else:
            stem = name.removesuffix("_heads")
            cells |= {f"{stem}_head{head}": float(value) for head, value in enumerate(values[layer, :, number])}
    return cells


def colour_range(measure: str, values: Array) -> tuple[float, float, str]:
    """(lowest, highest, colour map) for a measure: symmetric about zero where it is signed, from zero elsewhere."""
    known = values[np.isfinite(values)]
    most = float(np.abs(known).max()) if known.size else 0.0
    most = most if most > 0 else 1.0
    return (-most, most, "RdBu") if measure in SIGNED else (0.0, most, "magma")


def _plain(maps: Mapping[str, Array]) -> dict[str, Any]:
    return {name: _nested(values) for name, values in maps.items()}


def _nested(values: Array) -> Any:
    if values.ndim == 1:
        return [value if np.isfinite(value) else None for value in values.tolist()]
    return [_nested(part) for part in values]


def _arrays(maps: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.array(values, dtype=np.float64) for name, values in maps.items()}


def _source(entry: Mapping[str, Any]) -> Source:
    box = entry.get("box")
    return Source(
        positions=tuple(entry["positions"] if "positions" in entry else (entry["position"],)),
        text=entry["text"],
        modality=entry["modality"],
        image=entry.get("image"),
        row=entry["row"],
        col=entry["col"],
        kind=entry.get("kind", "token"),
        grid=entry.get("grid"),
        box=None if box is None else (box[0], box[1], box[2], box[3]),
    )
