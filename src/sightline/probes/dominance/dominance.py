"""Text dominance: how attention splits between text and the other modalities, layer by layer (arXiv 2508.10552)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sightline.attention import attach
from sightline.attention.passes import LayoutSource
from sightline.attention.sink_tracker import track_sinks
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, setting
from sightline.probes.dominance.probe import DominanceProbe, Metric
from sightline.probes.dominance.queries import Queries, bound, check_queries
from sightline.probes.dominance.stages import SCHEMES, Scheme

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks


@dataclass(frozen=True)
class Dominance(Method):
    """Reads MDI and AEI while the model runs; changes nothing.

    queries: whose attention is read. `generated`: at every generation step the row that predicts the next token, as
    the paper does (a plain forward pass counts as one step). `prompt`: every text row of the prompt. `all`: every row
    of the prompt that is not padding. Also a list of positions of each prompt (its padding does not count), or a
    function of the layout and the token ids of a batch, such as `words("noun")`, which chooses tokens of the prompt by
    their own rows and generated ones by the rows that predict them. Keys are the input's positions in each case:
    generated ones count on no side.
    stages: how layers are put together as early, middle and late; see `stage_layers`.

    sinks: as `find_sinks` returns them. `mdi_no_sinks` then leaves out, beside BOS, every text and image token that is
    a sink in the layer at hand; without, BOS alone.

    metrics: functions of one query row's weights [heads, positions of the input] and the layout of its sample (a batch
    of one), both without padding, to a number; their means over the query rows are reported and put together as MDI is.

    heads: keep each head's masses too, as `LayerMass.heads`; MDI and the other figures are of their mean in any case.

    Where a prompt has several images, the attention on each is kept apart too (`SampleDominance.by_image`).

    The text is every text position that is not padding, template and system prompt included. BOS and other sinks are
    part of it; `mdi_no_sinks` leaves them out.
    """

    name: ClassVar[str] = "dominance"
    queries: Queries = setting("generated", "rows whose attention is read: generated, prompt or all")
    stages: Scheme = setting("paired", "layers called early, middle, late: paired or thirds")
    sinks: Sinks | None = setting(None, "found sinks, to be left out of mdi_no_sinks")
    metrics: Mapping[str, Metric] | None = setting(None, "metrics of one's own, by name; from Python alone")
    heads: bool = setting(False, "keep the masses of each head beside their mean")

    def __post_init__(self) -> None:
        object.__setattr__(self, "queries", check_queries(self.queries))
        for name, metric in (self.metrics or {}).items():
            if not callable(metric) or not name.isidentifier():
                raise InputError(f"The metric {name!r} is no function under a plain name: give name=function.")
        if self.stages not in SCHEMES:
            raise InputError(f"There are no stages called '{self.stages}'; use {' or '.join(SCHEMES)}.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[DominanceProbe]:
        """Read every prompt that runs inside; yields the probe whose `result()` can be read at any time."""
        anatomy, source = anatomy_and_layout(model, layout)
        name = str(getattr(model, "name", type(model).__name__))
        dims, tau = (self.sinks.dims, self.sinks.tau) if self.sinks is not None else ((), 1.0)
        with track_sinks(anatomy, dims, tau) as watch:
            queries = bound(self.queries, model)
            sinks = watch if dims else None
            probe = DominanceProbe(anatomy, name, queries, self.stages, self.metrics or {}, sinks, self.heads)
            with attach(anatomy, reader=probe, layout=source):
                yield probe
                probe.finish()
