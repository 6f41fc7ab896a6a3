"""`search_sinks`: survey the samples for sink dimensions, choose, then check them on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sightline.attention.passes import LayoutSource
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.methods.base import anatomy_and_layout
from sightline.models.anatomy import Anatomy
from sightline.models.logits import last_logits
from sightline.probes.sinks.check import FACTOR, SampleCheck, check
from sightline.probes.sinks.find import FoundDims, Survey, choose, survey
from sightline.probes.sinks.result import Sinks, content_of
from sightline.probes.sinks.summary import summarise

if TYPE_CHECKING:
    from sightline.models.vlm.encoding import PreparedInputs

Item = Sample | Mapping[str, Any]


def search_sinks(
    model: Any,
    samples: Item | Sequence[Item],
    tau: float | None = None,
    factor: float = FACTOR,
    batch_size: int = 1,
    layout: LayoutSource | None = None,
) -> Sinks:
    """Find a model's sink dimensions on samples, and check them against its attention. Each sample is run twice.

    Args:
        model: a `VLM`, or a bare Transformers model.
        samples: a few dozen ordinary prompts with their images; for a bare model, or as well, what its forward takes.
        tau: the threshold of phi; by default 20, or what a small model needs, see `sightline.probes.sinks.find`.
        factor: a token is a sink by attention when it draws this many times what uniform attention would give.
        batch_size: samples in one pass; forward inputs are passes already.

    Raises:
        InputError: without samples, or for one that cannot be read.
    """
    items = [samples] if isinstance(samples, Sample | Mapping) else list(samples)
    if not items:
        raise InputError("There are no samples to find sinks on: give at least one.")
    search = Search.on(model, layout, tau, factor)
    batches = list(_batches(items, batch_size))
    found = search.choose([entry for batch in batches for entry in search.survey(batch)])
    return search.summarise(found, [entry for batch in batches for entry in search.check(batch, found)])


def _batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    waiting: list[Item] = []
    for item in items:
        if isinstance(item, Mapping):
            if waiting:
                yield waiting
                waiting = []
            yield [item]
            continue
        waiting.append(item)
        if len(waiting) == size:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


@dataclass(frozen=True)
class Search:
    """The steps of `search_sinks` one by one, for a run that is interrupted and goes on."""

    model: Any
    anatomy: Anatomy
    layout: LayoutSource | None
    tau: float | None = None
    factor: float = FACTOR

    @classmethod
    def on(
        cls, model: Any, layout: LayoutSource | None = None, tau: float | None = None, factor: float = FACTOR
    ) -> Search:
        """A search on a `VLM` or a bare model; InputError for a tau or factor that is no number above 0."""
        for name, value in (("tau", tau), ("factor", factor)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}: give a number above 0.")
        anatomy, source = anatomy_and_layout(model, layout)
        return cls(model, anatomy, source, tau, factor)

    def prepare(self, batch: Sequence[Item]) -> PreparedInputs | None:
        """Samples read and in the processor's words, which another thread may do ahead; None for forward inputs."""
        if isinstance(batch[0], Mapping):
            return None
        if not hasattr(self.model, "prepare"):
            raise InputError(
                f"{type(self.model).__name__} has no processor to encode a Sample with: give forward inputs, or a "
                "model loaded with sightline.load."
            )
        ready: PreparedInputs = self.model.prepare(list(batch))
        return ready

    def survey(self, batch: Sequence[Item], ready: PreparedInputs | None = None) -> list[Survey]:
        """What each sample of a batch says about the dimensions. ready: what `prepare` made of it, where it did."""
        run, _ = self._runner(batch, ready)
        return survey(self.anatomy, run, self.layout)

    def choose(self, surveys: Sequence[Survey]) -> FoundDims:
        """The dimensions that the surveys agree on."""
        return choose(surveys, self.anatomy.hidden_size, self.tau)

    def check(self, batch: Sequence[Item], found: FoundDims, ready: PreparedInputs | None = None) -> list[SampleCheck]:
        """Each sample of a batch, its sinks held against attention."""
        run, pictures = self._runner(batch, ready)
        return check(self.anatomy, run, found.dims, found.tau, self.factor, self.layout, pictures)

    def summarise(self, found: FoundDims, checks: Sequence[SampleCheck], failed: int = 0) -> Sinks:
        """All together."""
        name = str(getattr(self.model, "name", type(self.anatomy.model).__name__))
        revision = getattr(self.model, "revision", None)
        content = content_of(name) if hasattr(self.model, "name") else None
        return summarise(name, found, checks, revision, self.anatomy.hidden_size, self.factor, failed, content)

    def _runner(self, batch: Sequence[Item], ready: PreparedInputs | None) -> tuple[Callable[[], Any], Any]:
        """What runs the model once on a batch, and the pictures of its samples where they are known."""
        first = batch[0]
        if isinstance(first, Mapping):
            return lambda: _run(self.anatomy.model, first), None
        ready = self.prepare(batch) if ready is None else ready
        if ready is None:
            raise InputError("Samples and forward inputs are of one batch each: give them apart.")
        inputs = self.model.encode(ready)
        # The pictures are of the size that the processor was given.
        return lambda: _run(self.anatomy.model, inputs), ready.pictures


def _run(model: Any, inputs: Mapping[str, Any]) -> None:
    """One forward pass over the prompt, with the logits of its last position alone where the model can do so."""
    with torch.no_grad():
        model(**inputs, use_cache=False, **last_logits(model))
