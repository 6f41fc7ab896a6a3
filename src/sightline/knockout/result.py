"""ImpactMap: what hiding each source does at each layer, with what it was measured under; as JSON, table and figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import InputError, SightlineError
from sightline.knockout.measures import MAIN, MEASURES, Array, colour_range, is_head_column, measure_of
from sightline.knockout.paired import compare_impacts
from sightline.knockout.source import Source
from sightline.results.result import Result, frame_of
from sightline.results.style import axes_of, look
from sightline.results.table import Section, Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width


@dataclass(frozen=True, eq=False)
class ImpactMap(Result):
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
        baseline: of the untouched model: "token" (id), "text", "logit", "prob", "logprob" of what is followed; where
            the row predicts another token, "predicted", "predicted_text", "predicted_prob".
        controls: random sources of equal size; control_maps: their maps, as `maps`.
        settings: all that the numbers depend on.
        estimate: where the maps are estimated, how far they agree with exact cuts of a sample, see `estimate_check`.
        reference: by scope ("row", "every-row"), the effects of hiding all of the image at every layer, where wanted.
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
    estimate: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for maps, sources in ((self.maps, self.tokens), (self.control_maps, self.controls)):
            for name, values in maps.items():
                if (values.shape[0], values.shape[-1]) != (len(self.layers), len(sources)):
                    raise ValueError(f"the map {name} is {values.shape} for {len(self.layers)} x {len(sources)}")

    @property
    def measure(self) -> str:
        """The measure that is shown by default."""
        return next((name for name in MAIN if name in self.maps), next(iter(self.maps)))

    def values(self, measure: str | None = None) -> Array:
        """[layers, tokens] of one measure; per-head maps are averaged over heads. InputError for one that it lacks."""
        name = measure or self.measure
        if name not in self.maps:
            raise InputError(f"There is no '{name}' in a {self.mode} map; it has {', '.join(self.maps)}.")
        found = self.maps[name]
        return found if found.ndim == 2 else found.mean(1)

    def compare(self, other: ImpactMap, *, metric: str | None = None) -> pd.DataFrame:
        """This map against another one of the same prompt, layer by layer and modality by modality.

        Of one prompt each there are no intervals; `sl.impact` on several gives `Impacts`, which has them.
        """
        return compare_impacts({"": (self,)}, {"": (other,)}, metric)

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
        if self.estimate:
            found["estimate"] = dict(self.estimate)
        return found

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ImpactMap:
        """The map of a document; InputError where it is none."""
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
                estimate=dict(document.get("estimate") or {}),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"This is no document of `sightline impact` ({reason}).") from error

    def entries(self) -> list[dict[str, Any]]:
        """A row a layer, source (controls behind them), measure and, of per-head measures, head.

        What is hidden stands in text, position, positions, modality, kind, patch_row and patch_col.
        """
        answer = self.baseline.get("text")
        return [
            {"model": self.model, "method": self.mode, "answer": answer, "value": value, "metric": name, "head": head}
            | {key: each for key, each in row.items() if key not in self.maps and not is_head_column(key)}
            for row in self._rows()
            for column, value in row.items()
            for name, head in [measure_of(column)]
            if name in self.maps
        ]

    def sections(self) -> list[Section]:
        """The sources that do most, mean over layers."""
        rows = [
            (source.text, source.modality, "" if source.row is None else f"{source.row}, {source.col}", f"{effect:.3g}")
            for source, effect in self.top(self.layers, 10)
        ]
        title = f"{self.model}: {self.mode} impact of {len(self.tokens)} sources in {len(self.layers)} layers"
        columns = ("hidden", "modality", "patch", MEASURES.get(self.measure, self.measure))
        answer = self.baseline.get("text")
        note: list[Section] = [] if answer is None else [f"The model predicts “{answer}”."]
        return [Table(title, columns, rows), *note, *self.estimate_notes()]

    def estimate_notes(self) -> list[str]:
        """A sentence on how far estimated maps can be trusted; none for exact ones."""
        if not self.estimate:
            return []
        ranks, straight = (self.estimate[name] for name in ("rank_correlation", "correlation"))
        words = "nothing varied" if ranks is None else f"ranks agree by {ranks:.2f}, values by {straight:.2f}"
        cut, edges, of = (self.estimate[name] for name in ("cut", "edges", "of"))
        if cut == of:
            return [f"All {of} edges are cut exactly; beside them the gradient's {words}."]
        return [
            f"Estimated by gradient, but for {cut} of {of} edges that are cut exactly, the largest among them; beside "
            f"{edges} of these, a sample, the gradient's {words}."
        ]

    def table(self) -> pd.DataFrame:
        """A row a layer and source (controls behind them): position, text, modality, patch row and column, measures.

        Per-head measures have a column a head: l2_head0, l2_head1, ... Undefined values are NaN.
        """
        return frame_of(list(self._rows()))

    def to_csv(self, path: str | Path) -> Path:
        """Writes `table` as UTF-8; cells without a value are empty. SightlineError when it cannot be written."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.table().to_csv(path, index=False, encoding="utf-8")
        except OSError as error:
            raise SightlineError(f"{path} could not be written ({error.strerror or error}).") from error
        return path

    def plot(
        self,
        ax: Any = None,
        *,
        metric: str | None = None,
        by: str = "source",
        style: Style = "paper",
        width: Width = "page",
    ) -> Axes:
        """One measure as axes, for `sl.save_figure`. `sightline impact` draws more figures.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.
            metric: "logprob", "kl", "l2", ...; by default the map's first.
            by: "source", layers by sources in colours; or "modality", a line by layer for the sum over each.
            style: "paper" or "screen".
            width: of the new figure, "column" or "page".
        """
        name = metric or self.measure
        values = self.values(name)
        if by not in ("source", "modality"):
            raise InputError(f"There is no figure by {by!r}: give source or modality.")
        with look(style):
            axes = axes_of(ax, width, 0.6)
            axes.set_title(f"{self.model}: {self.mode}")
            if by == "modality":
                for kind in dict.fromkeys(source.modality for source in self.tokens):
                    places = [place for place, source in enumerate(self.tokens) if source.modality == kind]
                    axes.plot(self.layers, np.nansum(values[:, places], 1), label=f"{kind} ({len(places)})")
                axes.set(xlabel="layer", ylabel=MEASURES.get(name, name))
                axes.legend()
                return axes
            low, high, colours = colour_range(name, values)
            shown = axes.imshow(values, aspect="auto", origin="lower", cmap=colours, vmin=low, vmax=high)
            axes.set_yticks(range(len(self.layers)), [str(layer) for layer in self.layers])
            axes.set(xlabel="hidden, in the order of the prompt", ylabel="layer")
            axes.figure.colorbar(shown, ax=axes, label=MEASURES.get(name, name))
            return axes

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
