"""Many samples put together: mean, standard deviation, median and bootstrap interval, by layer and by stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sightline.errors import InputError
from sightline.files.json import html_table
from sightline.probes.dominance.masses import LayerMass, SampleDominance, is_modality
from sightline.probes.dominance.stages import Scheme, stage_layers
from sightline.results.style import Style, Width, axes_of, look
from sightline.stats import mean_intervals

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Key = TypeVar("Key")

RESAMPLES = 2000
INDICES = ("mdi", "aei", "mdi_no_sinks", "aei_no_sinks")


@dataclass(frozen=True)
class Summary:
    """A figure over samples. count: samples for which it is defined; the other fields are None without any."""

    mean: float | None
    std: float | None
    median: float | None
    ci95: tuple[float, float] | None
    count: int

    def fields(self, name: str) -> dict[str, Any]:
        """As the JSON document spells it: `name`, `name_std`, `name_median`, `name_ci95`, `name_count`."""
        interval = None if self.ci95 is None else list(self.ci95)
        return {
            name: self.mean,
            f"{name}_std": self.std,
            f"{name}_median": self.median,
            f"{name}_ci95": interval,
            f"{name}_count": self.count,
        }


def summarise(values: Sequence[float | None], seed: int = 0) -> Summary:
    """Mean, sample standard deviation, median and 95% percentile bootstrap interval of the mean.

    Entries that are None are left out. One value has no deviation and no interval. The bootstrap is seeded, so the
    same samples give the same interval.
    """
    return _summaries({"": np.array([np.nan if value is None else value for value in values], float)}, seed)[""]


def _summaries(columns: Mapping[Key, NDArray[np.float64]], seed: int = 0) -> dict[Key, Summary]:
    """`summarise` of each column of one value a sample, NaN where there is none; all are drawn anew together."""
    found: dict[Key, Summary] = {}
    alike: dict[bytes, list[Key]] = {}
    for key, column in columns.items():
        alike.setdefault(np.isfinite(column).tobytes(), []).append(key)
    for keys in alike.values():
        is_known = np.isfinite(columns[keys[0]])
        table = np.stack([columns[key][is_known] for key in keys], 1)
        intervals = mean_intervals(table, RESAMPLES, seed) if len(table) > 1 else [None] * len(keys)
        found |= {
            key: _summary(values, interval) for key, values, interval in zip(keys, table.T, intervals, strict=True)
        }
    return {key: found[key] for key in columns}


def _summary(values: NDArray[np.float64], interval: tuple[float, float] | None) -> Summary:
    if not len(values):
        return Summary(None, None, None, None, 0)
    if interval is None:
        return Summary(float(values[0]), None, float(values[0]), None, 1)
    mean, middle = fmean(values.tolist()), float(np.median(values))
    if values.min() == values.max():
        interval = float(values[0]), float(values[0])
    return Summary(mean, float(values.std(ddof=1)), middle, interval, len(values))


@dataclass(frozen=True)
class DominanceResult:
    """MDI and AEI over samples.

    layer_figures: by layer, by index name (`mdi`, `aei`, `mdi_no_sinks`, `aei_no_sinks`, `text_mass`, `image_mass`,
    ..., and `text_selected`, `image_selected`, ... where an indexer selects keys), its summary.
    stage_figures: the same by stage, each sample's stage being the mean over its layers.
    """

    model: str
    queries: str
    samples: tuple[SampleDominance, ...] = field(repr=False)
    scheme: Scheme
    failed: int
    layers: tuple[int, ...] = field(repr=False)
    stage_layers: dict[str, list[int]]
    layer_figures: dict[int, dict[str, Summary]] = field(repr=False)
    stage_figures: dict[str, dict[str, Summary]] = field(repr=False)

    def __str__(self) -> str:
        """MDI and AEI of each stage, a line each."""
        count = f"{len(self.samples)} sample{'' if len(self.samples) == 1 else 's'}"
        name = f"{self.model}: " if self.model else ""
        lines = [f"{name}{count}, queries {self.queries}"]
        for stage, figures in self.stage_figures.items():
            mdi, aei = (_in_words(figures[index]) for index in ("mdi", "aei"))
            lines.append(f"{stage:<6}  MDI {mdi}  AEI {aei}  layers {', '.join(map(str, self.stage_layers[stage]))}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The stages as a table, for notebooks."""
        rows = [
            [
                stage,
                ", ".join(map(str, self.stage_layers[stage])),
                *(_in_words(figures[index]) for index in ("mdi", "mdi_no_sinks", "aei")),
            ]
            for stage, figures in self.stage_figures.items()
        ]
        return html_table(
            str(self).partition("\n")[0],
            ("stage", "layers", "MDI", "MDI without sinks", "AEI"),
            rows,
            "Mean ± standard deviation. MDI above 1: a text token draws more attention than an image token.",
        )

    def stages(self) -> dict[str, dict[str, Any]]:
        """Early, middle and late: their layers, and every index with its deviation, median and interval."""
        return {
            stage: {"layers": self.stage_layers[stage]} | _merged(figures)
            for stage, figures in self.stage_figures.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `sightline measure`: plain numbers, None where a figure is not defined."""
        groups = sorted({name for sample in self.samples for name in sample.tokens if is_modality(name)})
        tokens = {name: fmean(float(sample.tokens.get(name, 0)) for sample in self.samples) for name in groups}
        layers = [{"layer": layer} | _merged(figures) for layer, figures in self.layer_figures.items()]
        return {
            "model": self.model,
            "queries": self.queries,
            "samples": len(self.samples),
            "failed": self.failed,
            "tokens": tokens,
            "stage_scheme": self.scheme,
            "layers": layers,
            "stages": self.stages(),
        }

    def to_pandas(self) -> pd.DataFrame:
        """One row a sample and layer: sample, layer, the indices, and the mass of each group.

        Where heads were kept, also one a head, with its number in the column `head`.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for index, sample in enumerate(self.samples):
            for entry in sample.layers:
                where = {"sample": index, "layer": entry.layer}
                rows.append(where | _figures(sample, entry))
                rows += [where | {"head": n} | _figures(sample, head) for n, head in enumerate(entry.of_heads())]
        frame: pd.DataFrame = pd.DataFrame(rows)
        return frame

    def plot(self, ax: Any = None, *, style: Style = "paper", width: Width = "column") -> Axes:
        """MDI by layer with its interval, as axes for `sl.save_figure`.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.
            style: "paper" or "screen".
            width: of the new figure, "column" or "page".
        """
        with look(style):
            axes = axes_of(ax, width)
            self._draw(axes)
        return axes

    def _draw(self, axes: Axes) -> None:
        for name, label in (("mdi", "MDI"), ("mdi_no_sinks", "MDI without sinks")):
            found = {layer: self.layer_figures[layer][name] for layer in self.layers}
            means = {layer: summary.mean for layer, summary in found.items() if summary.mean is not None}
            if not means:
                continue
            (line,) = axes.plot(list(means), list(means.values()), label=label)
            bands = {layer: summary.ci95 for layer, summary in found.items() if summary.ci95 is not None}
            low, high = [band[0] for band in bands.values()], [band[1] for band in bands.values()]
            axes.fill_between(list(bands), low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        axes.axhline(1, color="0.4", linewidth=0.8, linestyle=":", marker="")
        axes.set(xlabel="layer", ylabel="MDI", title=f"{self.model}: {self.queries} queries, n = {len(self.samples)}")
        axes.legend()


def _in_words(summary: Summary) -> str:
    if summary.mean is None:
        return "-"
    return f"{summary.mean:.2f}" + ("" if summary.std is None else f" ± {summary.std:.2f}")


_READERS: dict[str, Callable[[SampleDominance, LayerMass], float | None]] = {
    "mdi": lambda sample, layer: sample.mdi(layer),
    "aei": lambda sample, layer: sample.aei(layer),
    "mdi_no_sinks": lambda sample, layer: sample.mdi(layer, with_sinks=False),
    "aei_no_sinks": lambda sample, layer: sample.aei(layer, with_sinks=False),
}


def aggregate(
    samples: Sequence[SampleDominance],
    model: str = "",
    queries: str | None = None,
    stages: Scheme = "paired",
    failed: int = 0,
) -> DominanceResult:
    """Put samples of one model together: per sample and layer first, then over samples.

    queries: the query set they were all measured with; by default that of the first. failed: samples that were passed
    over, reported along.

    Raises:
        InputError: without samples, or when their query sets or layers differ.
    """
    if not samples:
        raise InputError("There is no measured sample to aggregate.")
    queries = samples[0].queries if queries is None else queries
    layers = tuple(entry.layer for entry in samples[0].layers)
    for index, sample in enumerate(samples):
        if sample.queries != queries:
            raise InputError(
                f"Sample {index} was measured on '{sample.queries}' queries and the result is of '{queries}': "
                "aggregate them apart."
            )
        if tuple(entry.layer for entry in sample.layers) != layers:
            raise InputError(f"Sample {index} has other layers than the first one: aggregate one model at a time.")
    parts = stage_layers(layers, stages)
    columns: dict[tuple[int, str], NDArray[np.float64]] = {}
    for index, sample in enumerate(samples):
        for entry in sample.layers:
            for name, value in _figures(sample, entry).items():
                column = columns.setdefault((entry.layer, name), np.full(len(samples), np.nan))
                column[index] = np.nan if value is None else value
    names = sorted({name for _, name in columns}, key=_order)
    empty = np.full(len(samples), np.nan)
    by_layer = {(layer, name): columns.get((layer, name), empty) for layer in layers for name in names}
    by_stage = {
        (stage, name): _mean_of_known([by_layer[layer, name] for layer in chosen] or [empty])
        for stage, chosen in parts.items()
        for name in names
    }
    of_layers, of_stages = _summaries(by_layer), _summaries(by_stage)
    return DominanceResult(
        model=model,
        queries=queries,
        samples=tuple(samples),
        scheme=stages,
        failed=failed,
        layers=layers,
        stage_layers=parts,
        layer_figures={layer: {name: of_layers[layer, name] for name in names} for layer in layers},
        stage_figures={stage: {name: of_stages[stage, name] for name in names} for stage in parts},
    )


def _figures(sample: SampleDominance, layer: LayerMass) -> dict[str, float | None]:
    figures: dict[str, float | None] = {name: read(sample, layer) for name, read in _READERS.items()}
    figures |= {f"{name}_mass": mass for name, mass in layer.masses.items()}
    figures |= {f"{name}_selected": share for name, share in layer.selected.items()}
    return figures | dict(layer.metrics)


def _order(name: str) -> tuple[int, str]:
    return (INDICES.index(name) if name in INDICES else len(INDICES), name)


def _mean_of_known(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over layers, of those that have a value; NaN where none has."""
    table = np.stack(columns)
    counts = np.isfinite(table).sum(0)
    return np.where(counts > 0, np.nansum(table, 0) / np.maximum(counts, 1), np.nan)


def _merged(figures: dict[str, Summary]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, summary in figures.items():
        # The share of attention has a mean and a deviation; its median and interval would only crowd the document.
        merged |= {name: summary.mean} if name.endswith("_mass") else summary.fields(name)
    merged.setdefault("image_mass", None)
    return merged
