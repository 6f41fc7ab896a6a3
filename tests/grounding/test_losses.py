"""Laws of the grounding losses: what they are on plain numbers, what has no gradient, and how they scale."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sightline.errors import InputError
from sightline.probes.grounding import Scores
from sightline.training.losses import GroundingLoss

COSINES = st.floats(-1, 1, width=32)
WORDS = st.lists(st.tuples(COSINES, st.sampled_from([1.0, 0.0, -1.0]), st.booleans()), min_size=1, max_size=12)
KINDS = ["margin", "bce", "mse"]


def scores_of(values: Tensor, is_text: Tensor) -> Scores:
    return Scores(values, values[None], is_text)


def built(words: list[tuple[float, float, bool]]) -> tuple[Scores, Tensor]:
    """A batch of one, whose scores want a gradient, and its labels."""
    values = torch.tensor([[score for score, _, _ in words]], requires_grad=True)
    return scores_of(values, torch.tensor([[text for _, _, text in words]])), torch.tensor([[y for _, y, _ in words]])


def plain_error(kind: str, score: float, label: float, margin: float, temperature: float) -> float:
    if kind == "margin":
        return max(0.0, margin - score) if label else max(0.0, score - margin)
    if kind == "mse":
        return (score - label) ** 2
    logit = (score - margin) / temperature
    return math.log1p(math.exp(-logit if label else logit))


@pytest.mark.parametrize("kind", KINDS)
@given(words=WORDS, margin=st.floats(-0.5, 0.9), weight=st.floats(0, 3))
@settings(max_examples=25)
def test_the_term_is_the_plain_mean_and_ignored_words_have_no_gradient(
    kind: Any, words: list[Any], margin: float, weight: float
) -> None:
    scores, labels = built(words)
    found = GroundingLoss(kind, margin=margin, weight=weight)(scores, labels)
    counted = [(score, label) for score, label, is_text in words if is_text and label >= 0]
    errors = [plain_error(kind, score, label, margin, 0.1) for score, label in counted]
    expected = sum(errors) / len(errors) if errors else 0.0
    assert float(found.terms["ground"].detach()) == pytest.approx(expected, abs=1e-4)
    assert float(found.total.detach()) == pytest.approx(weight * expected, abs=1e-4)
    (gradient,) = torch.autograd.grad(found.total, scores.values)
    for place, (_, label, is_text) in enumerate(words):
        if not is_text or label < 0:
            assert gradient[0, place] == 0


@given(words=WORDS, wrong=WORDS, margin=st.floats(0, 1))
@settings(max_examples=40)
def test_contrast_is_zero_once_grounded_words_are_the_margin_above_wrong_ones(
    words: list[Any], wrong: list[Any], margin: float
) -> None:
    (scores, labels), (negative, negative_labels) = built(words), built(wrong)
    loss = GroundingLoss("none", contrast_margin=margin, contrast_weight=2.0)
    found = loss(scores, labels, negative, negative_labels)
    right = [score for score, label, is_text in words if is_text and label == 1]
    false = [score for score, label, is_text in wrong if is_text and label == 0]
    term = float(found.terms["contrast"].detach())
    assert "ground" not in found.terms
    assert float(found.total.detach()) == pytest.approx(2 * term, abs=1e-5)
    if not right or not false:
        assert term == 0
        return
    gap = sum(right) / len(right) - sum(false) / len(false)
    assert term == pytest.approx(max(0.0, margin - gap), abs=1e-5)
    if gap > margin + 1e-5:
        assert term == 0
        assert not any(map(torch.any, torch.autograd.grad(found.total, (scores.values, negative.values))))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pull_grounded_words_up_and_wrong_words_down(kind: Any) -> None:
    scores, labels = built([(0.2, 1.0, True), (0.8, 0.0, True), (0.2, -1.0, True)])
    (gradient,) = torch.autograd.grad(GroundingLoss(kind)(scores, labels).total, scores.values)
    assert gradient[0, 0] < 0 < gradient[0, 1]
    assert gradient[0, 2] == 0


def test_the_margin_is_met_at_the_cosine_that_it_names() -> None:
    scores, labels = built([(0.5, 1.0, True), (0.5, 0.0, True)])
    assert float(GroundingLoss()(scores, labels).total.detach()) == 0
    scores, labels = built([(0.04, 1.0, True)])
    assert float(GroundingLoss()(scores, labels).terms["ground"].detach()) == pytest.approx(0.46)


def test_negative_captions_count_in_the_grounding_term_unless_told_otherwise() -> None:
    (scores, labels), (negative, wrong) = built([(0.1, 1.0, True)]), built([(0.9, 0.0, True), (0.3, -1.0, True)])
    with_them = GroundingLoss("mse")(scores, labels, negative, wrong)
    without = GroundingLoss("mse", has_negatives=False)(scores, labels, negative, wrong)
    assert float(with_them.terms["ground"].detach()) == pytest.approx((0.81 + 0.81) / 2)
    assert float(without.terms["ground"].detach()) == pytest.approx(0.81)
    assert float(with_them.terms["contrast"].detach()) == pytest.approx(0.9 - 0.1 + 0.5)
    assert float(with_them.terms["grounded"]) == pytest.approx(0.1)
    assert float(with_them.terms["hallucinated"]) == pytest.approx(0.9)
    assert "contrast" not in GroundingLoss(contrast_weight=0)(scores, labels, negative, wrong).terms


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_nothing_labelled_is_zero_with_a_graph_whatever_stands_there(kind: Any) -> None:
    values = torch.tensor([[0.3, float("nan"), float("inf")]], requires_grad=True)
    scores = scores_of(values, torch.tensor([[True, False, False]]))
    labels = torch.tensor([[-1.0, 1.0, 0.0]])
    found = GroundingLoss(kind)(scores, labels, scores, labels)
    assert float(found.total.detach()) == 0
    (gradient,) = torch.autograd.grad(found.total, values)
    assert torch.equal(gradient, torch.zeros(1, 3))
    assert all(bool(term.isfinite()) for term in found.terms.values())


def test_low_precision_scores_are_summed_in_float32() -> None:
    values = torch.full((1, 4096), 0.25, dtype=torch.bfloat16, requires_grad=True)
    found = GroundingLoss()(scores_of(values, torch.ones(1, 4096).bool()), torch.ones(1, 4096))
    assert found.total.dtype == torch.float32
    assert float(found.terms["ground"].detach()) == pytest.approx(0.25)


def test_mistakes_are_said() -> None:
    scores, labels = built([(0.5, 1.0, True)])
    for settings_, reason in [
        ({"kind": "hinge"}, "no kind 'hinge'"),
        ({"margin": 1.5}, "cosine from -1 to 1"),
        ({"weight": -1}, "weight is -1"),
        ({"contrast_weight": float("nan")}, "contrast_weight is nan"),
        ({"temperature": 0}, "number above 0"),
    ]:
        with pytest.raises(InputError, match=reason):
            GroundingLoss(**settings_)
    with pytest.raises(InputError, match=r"labels are \(1, 2\) and the scores \(1, 1\)"):
        GroundingLoss()(scores, torch.ones(1, 2))
    with pytest.raises(InputError, match="give negative_labels too"):
        GroundingLoss()(scores, labels, scores)
