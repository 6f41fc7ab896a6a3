"""The measures of an impact map: their words, which are signed, their colours, their columns."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


MEASURES: dict[str, str] = {
    "l2": "L2 distance of the layer's output",
    "cosine": "cosine distance of the layer's output",
    "logit": "change of the logit",
    "prob": "change of the probability",
    "logprob": "change of the log-probability (nats)",
    "kl": "KL divergence (nats)",
    "flip": "the answer's token changes (1: yes)",
    "exact": "cut exactly, not estimated (1: yes)",
    "l2_heads": "L2 distance of a head's output, before the output projection",
    "relevancy": "relevance by gradients (Chefer et al.)",
    "rollout": "attention rollout",
    "gradient_attention": "gradient x attention",
    "lens": "confidence in the word, by the unembedding",
    "locate": "attention of the heads that look at one place",
    "norm": "norm of the patch inside the vision tower",
    "norm_registers": "norm of the patch with test-time registers",
    "recovered": "share of the effect recovered",
    "recovered_gradient": "share of the effect recovered, estimated by the gradient",
    "gradient": "change of the log-probability, estimated by the gradient (nats)",
}
"""Each measure in words. Changes are hidden less untouched: negative where the source speaks for the token."""


SIGNED = ("logit", "prob", "logprob", "gradient", "recovered", "recovered_gradient")
"""Measures that fall below zero."""


MAIN = ("logprob", "kl", "l2", "cosine")
"""Measures by what a reader wants first."""


def is_head_column(column: str) -> bool:
    """Whether a column of `ImpactMap.table` is of one head."""
    return re.fullmatch(r".+_head\d+", column) is not None


def measure_of(column: str) -> tuple[str, int | None]:
    """The measure of a column of `table`, and its head where it has one."""
    found = re.fullmatch(r"(.+)_head(\d+)", column)
    return (column, None) if found is None else (f"{found[1]}_heads", int(found[2]))


def colour_range(measure: str, values: Array) -> tuple[float, float, str]:
    """(lowest, highest, colour map) for a measure: symmetric about zero where it is signed, from zero elsewhere."""
    known = values[np.isfinite(values)]
    most = float(np.abs(known).max()) if known.size else 0.0
    most = most if most > 0 else 1.0
    return (-most, most, "RdBu") if measure in SIGNED else (0.0, most, "magma")


ACTS = {"patch": "restored"} | dict.fromkeys(
    ("relevancy", "rollout", "gradient", "lens", "locate", "registers"), "looked at"
)
"""What a mode does with its sources, where they are not hidden."""
