"""What is read from one pass and changes nothing, as maps of layer by source: relevance, the lens, where heads look.

A group of positions has the sum of their relevance, or the largest confidence among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.alone import alone
from sightline.errors import InputError
from sightline.knockout.answer import RowAnswer
from sightline.knockout.logits import answer_of, row_logits
from sightline.knockout.result import ImpactMap
from sightline.knockout.source import Source
from sightline.knockout.vision import AnswerEffects
from sightline.models.anatomy import Anatomy
from sightline.models.weights_digest import weights_digest
from sightline.probes.image_lens import lens_at
from sightline.probes.localization import localize
from sightline.probes.relevance import relevance

READINGS = ("relevancy", "rollout", "gradient", "lens", "locate")
"""Modes that read. relevancy, rollout, gradient: see `relevance`; lens: confidence in the target at each position
behind each layer; locate: the three heads of the lowest spatial entropy, summed, see `localize`."""

HEADS = 3
"""Heads whose attention is summed: as many as the paper takes."""
FIRST = 10
"""Heads of a prompt that have a vote on the model's list."""


def read(
    mode: str,
    model: Any,
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    sources: Sequence[Source],
    target: str | int,
    layers: Sequence[int] | None,
) -> AnswerEffects:
    """The map of a reading; the row is the prompt's last.

    Raises:
        InputError: for a layer out of range, and for a prompt that a reading cannot be made of.
    """
    with alone(anatomy, "impact"):
        answer = answer_of(row_logits(anatomy, inputs)[0], target)
    baseline = dict(answer.baseline())
    if mode == "locate":
        return _located(model, anatomy, inputs, sources, baseline)
    chosen, values = _values(mode, model, anatomy, inputs, answer, layers)
    merge: Callable[[Tensor], Tensor] = (lambda part: part.amax(1)) if mode == "lens" else (lambda part: part.sum(1))
    found = torch.stack([merge(values[:, list(source.positions)]) for source in sources], 1)
    name = "gradient_attention" if mode == "gradient" else mode
    return AnswerEffects(tuple(sources), {name: found.double()}, baseline, chosen)


def locating_list(maps: Sequence[ImpactMap]) -> dict[str, Any]:
    """The document of localization.json: the heads that are among the first of most prompts, for the whole model."""
    votes = Counter(name for found in maps for name in found.baseline["first"])
    listed = votes.most_common(HEADS)
    return {
        "heads": [name for name, _ in listed],
        "votes": [count for _, count in listed],
        "prompts": len(maps),
        "model": maps[0].model,
        "weights": maps[0].baseline.get("weights"),
    }


def _values(
    mode: str, model: Any, anatomy: Anatomy, inputs: Mapping[str, Any], answer: RowAnswer, layers: Sequence[int] | None
) -> tuple[tuple[int, ...], Float[Tensor, "layers positions"]]:
    every = tuple(range(len(anatomy.layers)))
    if mode == "lens":
        values = lens_at(anatomy, inputs, range(int(inputs["input_ids"].shape[1])), [answer.token])[..., 0]
    else:
        values = relevance(model, inputs, mode, target=answer.token).values  # type: ignore[arg-type]
        every = tuple(anatomy.attention_layers)
    chosen = tuple(layers) if layers is not None else every
    missing = next((layer for layer in chosen if layer not in every), None)
    if missing is not None:
        raise InputError(
            f"Layer {missing} has nothing to read in the mode {mode}: give some of {every[0]} to {every[-1]}."
        )
    return chosen, values[[every.index(layer) for layer in chosen]]


def _located(
    model: Any, anatomy: Anatomy, inputs: Mapping[str, Any], sources: Sequence[Source], baseline: dict[str, Any]
) -> AnswerEffects:
    """The summed attention of the heads that look at one place of the first picture; other positions have none."""
    found = localize(model, inputs)
    seen, cells = found.map(HEADS), found.cells
    values = torch.full((int(inputs["input_ids"].shape[1]),), torch.nan, dtype=torch.float64)
    values[cells[cells >= 0]] = seen[cells >= 0].double()
    sums = [values[list(source.positions)].nansum() for source in sources]
    known = [bool(values[list(source.positions)].isfinite().any()) for source in sources]
    row = torch.tensor([float(total) if is_known else torch.nan for total, is_known in zip(sums, known, strict=True)])
    names = [one.name for one in found.heads]
    about: dict[str, Any] = {"heads": names[:HEADS], "first": names[:FIRST], "box": list(found.box(HEADS))}
    about["weights"] = weights_digest(anatomy)
    return AnswerEffects(tuple(sources), {"locate": row[None].double()}, baseline | about, (0,))
