"""What training adds to the language loss so that words are tied to the image.

    L = L_LM + weight L_ground + contrast_weight L_contrast

    margin      y max(0, m - g) + (1 - y) max(0, g - m)         on the cosine itself, never after a temperature
    bce         cross entropy of y and sigmoid((g - m) / temperature)
    mse         (g - y)^2
    contrast    max(0, mean g of wrong words - mean g of grounded words + contrast margin)

g is a word's grounding score, y its label: 1 grounded, 0 hallucinated. Words without a label do not count. Source:
the terms of pragya-s7/Adversarial-Image-Generation, with labels, and with a margin that is met at the cosine it names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.errors import InputError
from sightline.probes.grounding.values import Scores

LossKind = Literal["margin", "bce", "mse", "none"]
IGNORED = -1.0
"""The label of a position that does not count."""


@dataclass(frozen=True)
class LossTerms:
    """total: what is added to the language loss. terms: each unweighted term by name, for the log.

    `ground` and `contrast` are the terms; `grounded` and `hallucinated` are the mean scores of words labelled 1 and 0,
    without a graph, 0 where there are none.
    """

    total: Float[Tensor, ""]
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class GroundingLoss:
    """The grounding and contrast terms of a batch and, where there are some, of its negative captions.

    Attributes:
        kind: which grounding term; `none` leaves it out.
        margin: m, a cosine, -1 to 1. Grounded words are pushed above it, words labelled 0 below.
        weight: of the grounding term, 0 and up.
        contrast_weight: of the contrast term, 0 and up; 0 leaves it out.
        contrast_margin: by how much grounded words shall lie above wrong ones, a difference of cosines.
        temperature: the cosine difference that is worth one logit, for bce alone; above 0.
        has_negatives: whether labelled words of negative captions count in the grounding term too.
    """

    kind: LossKind = "margin"
    margin: float = 0.5
    weight: float = 0.5
    contrast_weight: float = 0.1
    contrast_margin: float = 0.5
    temperature: float = 0.1
    has_negatives: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(LossKind):
            raise InputError(f"The grounding loss has no kind '{self.kind}': give margin, bce, mse or none.")
        if not -1 <= self.margin <= 1:
            raise InputError(f"The grounding margin is {self.margin}: give a cosine from -1 to 1.")
        for name in ("weight", "contrast_weight", "contrast_margin"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} is {value} in the grounding loss: give a number from 0 up.")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature is {self.temperature} in the grounding loss: give a number above 0.")

    def __call__(
        self,
        scores: Scores,
        labels: Float[Tensor, "batch positions"],
        negative: Scores | None = None,
        negative_labels: Float[Tensor, "batch positions"] | None = None,
    ) -> LossTerms:
        """The terms of one batch.

        Args:
            scores: of the captions.
            labels: 1 grounded, 0 hallucinated, between them for unsure, below 0 not counted.
            negative, negative_labels: of the negative captions, alike; their words labelled 0 are the wrong ones.

        A batch without labelled words gives 0, with a graph.

        Raises:
            InputError: for labels of another shape than the scores, or negative scores without labels.
        """
        sides = [_Labelled.of(scores, labels, "labels")]
        if negative is not None:
            if negative_labels is None:
                raise InputError("Negative captions have scores but no labels: give negative_labels too.")
            sides.append(_Labelled.of(negative, negative_labels, "negative_labels"))
        total, terms = sum(side.nothing() for side in sides[1:]) + sides[0].nothing(), {}
        if self.kind != "none":
            counted = sides if self.has_negatives else sides[:1]
            errors = sum((side.sum(self._error) for side in counted[1:]), counted[0].sum(self._error))
            words = sum((side.count for side in counted[1:]), counted[0].count)
            terms["ground"] = errors / words.clamp(min=1)
            total = total + self.weight * terms["ground"]
        right, wrong = sides[0], sides[-1]
        if negative is not None and self.contrast_weight:
            gap = wrong.mean(0.0) - right.mean(1.0) + self.contrast_margin
            # Without words on both sides there is nothing to tell apart.
            both = (right.has(1.0) & wrong.has(0.0)).to(gap.dtype)
            terms["contrast"] = gap.clamp(min=0) * both
            total = total + self.contrast_weight * terms["contrast"]
        terms["grounded"] = right.mean(1.0).detach()
        terms["hallucinated"] = wrong.mean(0.0).detach()
        return LossTerms(total, terms)

    def _error(self, score: Tensor, label: Tensor) -> Tensor:
        return _ERRORS[self.kind](self, score, label)


def _margin_error(loss: GroundingLoss, score: Tensor, label: Tensor) -> Tensor:
    return label * (loss.margin - score).clamp(min=0) + (1 - label) * (score - loss.margin).clamp(min=0)


def _cross_entropy(loss: GroundingLoss, score: Tensor, label: Tensor) -> Tensor:
    logits = (score - loss.margin) / loss.temperature
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")


def _squared_error(loss: GroundingLoss, score: Tensor, label: Tensor) -> Tensor:
    return (score - label).square()


_ERRORS: dict[str, Callable[[GroundingLoss, Tensor, Tensor], Tensor]] = {
    "margin": _margin_error,
    "bce": _cross_entropy,
    "mse": _squared_error,
}


@dataclass(frozen=True)
class _Labelled:
    """Scores and labels [batch, positions] in float32 where `counts`, 0 elsewhere."""

    score: Tensor
    label: Tensor
    counts: Tensor

    @classmethod
    def of(cls, scores: Scores, labels: Tensor, name: str) -> _Labelled:
        if labels.shape != scores.values.shape:
            raise InputError(
                f"The {name} are {tuple(labels.shape)} and the scores {tuple(scores.values.shape)}: give one label for "
                "each position."
            )
        labels = labels.to(scores.values.device, torch.float32)
        counts = (labels >= 0) & scores.is_text
        # `where` keeps what is not counted out of the gradient, whatever stands there.
        return cls(torch.where(counts, scores.values.float(), 0.0), torch.where(counts, labels, 0.0), counts)

    @property
    def count(self) -> Tensor:
        return self.counts.sum()

    def nothing(self) -> Tensor:
        """0, with a graph."""
        return self.score.sum() * 0

    def sum(self, error: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return torch.where(self.counts, error(self.score, self.label), 0.0).sum()

    def having(self, label: float) -> Tensor:
        return self.counts & (self.label == label)

    def has(self, label: float) -> Tensor:
        return self.having(label).any()

    def mean(self, label: float) -> Tensor:
        """Mean score of the words with this label; 0 where there are none."""
        mine = self.having(label)
        return torch.where(mine, self.score, 0.0).sum() / mine.sum().clamp(min=1)


def sample_contrast(
    terms: GroundingLoss, scores: Scores, labels: Tensor, false: Scores, wrong: Tensor, owner: int, row: int
) -> Tensor:
    """The contrast of one sample with its own negative."""
    alone = replace(terms, kind="none")
    mine, its = slice(owner, owner + 1), slice(row, row + 1)
    return alone(_rows(scores, mine), labels[mine], _rows(false, its), wrong[its]).terms["contrast"]


def _rows(scores: Scores, rows: slice) -> Scores:
    return Scores(scores.values[rows], scores.by_layer[:, rows], scores.is_text[rows])
