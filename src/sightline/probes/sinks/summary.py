"""The checks of many samples put together."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from sightline.probes.sinks.check import FACTOR, LayerCheck, SampleCheck
from sightline.probes.sinks.find import FoundDims
from sightline.probes.sinks.result import LayerSinks, Sinks


def summarise(
    model: str,
    found: FoundDims,
    checks: Sequence[SampleCheck],
    revision: str | None = None,
    hidden_size: int | None = None,
    factor: float = FACTOR,
    failed: int = 0,
    content: str | None = None,
) -> Sinks:
    """Puts the checks of samples together."""
    layers = tuple(_layer(group) for group in zip(*(entry.layers for entry in checks), strict=True))
    every = [layer for entry in checks for layer in entry.layers]
    placed = sum(layer.placed for layer in every)
    patches = sum(entry.patches for entry in checks)
    has_pictures = any(entry.background for entry in checks)
    precision, recall = _agreement(every)
    return Sinks(
        model=model,
        dims=found.dims,
        tau=found.tau,
        gap=found.gap,
        precision=precision,
        recall=recall,
        candidates=found.candidates,
        layers=layers,
        revision=revision,
        hidden_size=hidden_size,
        factor=factor,
        samples=len(checks),
        failed=failed,
        on_border=_share(sum(layer.on_border for layer in every), placed),
        border=_share(sum(entry.border for entry in checks), patches),
        on_background=_share(sum(layer.on_background for layer in every), placed) if has_pictures else None,
        background=_share(sum(entry.background for entry in checks), patches) if has_pictures else None,
        content=content,
    )


def _layer(group: Sequence[LayerCheck]) -> LayerSinks:
    return LayerSinks(
        group[0].layer,
        fmean(entry.image_sinks for entry in group),
        fmean(entry.text_sinks for entry in group),
        fmean(entry.attended for entry in group),
        *_agreement(group),
    )


def _agreement(entries: Sequence[LayerCheck]) -> tuple[float | None, float | None]:
    """Precision and recall."""
    marked = sum(entry.image_sinks + entry.text_sinks for entry in entries)
    agreed = sum(entry.agreed for entry in entries)
    attended = sum(entry.attended for entry in entries)
    return _share(agreed, marked), _share(agreed, attended) if marked else None


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
