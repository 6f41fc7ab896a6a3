"""How readings are held against labels, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sightline.calibration.cases import existence_cases, insertion_cases, pair_cases, place_cases, stranger
from sightline.calibration.remedies import name_without_sinks, remedies
from sightline.calibration.scoring import (
    Marked,
    probe_scores,
    score_cases,
    score_exact,
    score_heads,
    score_pooled,
    score_rank,
)
from sightline.calibration.truths import DIAL

TRUTH = dict(zip(DIAL, (1.0, 0.75, 0.5, 0.25, 0.0), strict=True))


def test_a_reading_that_orders_the_dial_has_rank_one_and_its_opposite_minus_one() -> None:
    rising = {model: {scene: value + scene for scene in range(6)} for model, value in TRUTH.items()}
    falling = {model: dict.fromkeys(range(6), -value) for model, value in TRUTH.items()}
    level = {model: dict.fromkeys(range(6), 2.0) for model in TRUTH}
    ranked = [score_rank(readings, TRUTH) for readings in (rising, falling, level)]
    assert [rating and round(rating.value, 9) for rating in ranked] == [1.0, -1.0, 0.0]
    assert ranked[0] is not None
    assert ranked[0].n == 6


def test_a_dial_of_two_models_has_no_rank() -> None:
    assert score_rank({model: {0: 1.0} for model in DIAL[:2]}, {model: TRUTH[model] for model in DIAL[:2]}) is None


def test_maps_are_held_within_each_case_and_answers_over_all_of_them() -> None:
    # Within each case the labelled unit is the largest; the second case lies above the first as a whole.
    cases = [Marked(0, [1, 0, 0], [3.0, 1.0, 2.0]), Marked(1, [0, 1, None], [20.0, 30.0, None])]
    within, together = score_cases(cases), score_pooled(cases)
    assert within is not None
    assert within.value == 1.0
    assert within.ci95 is None
    assert together is not None
    assert together.value == pytest.approx(5 / 6)


def test_labels_of_one_kind_alone_have_no_auroc() -> None:
    assert score_pooled([Marked(0, [1.0], [2.0]), Marked(1, [1.0], [3.0])]) is None
    assert score_cases([Marked(0, [1, 1], [2.0, 3.0])]) is None


def test_heads_are_averaged_over_cases_before_they_are_ranked() -> None:
    # The planted head is largest on average, in neither case alone.
    cases = [Marked(0, [1, 0, 0], [2.0, 3.0, 0.0]), Marked(1, [1, 0, 0], [2.0, 0.0, 3.0])]
    rating = score_heads(cases)
    assert rating is not None
    assert rating.value == 1.0


def test_dimensions_are_right_as_a_whole_or_wrong() -> None:
    cases = [Marked(0, [1.0], [46, 23]), Marked(1, [1.0], [23]), Marked(2, [1.0], [])]
    rating = score_exact(cases, (23, 46))
    assert rating is not None
    assert rating.value == pytest.approx(1 / 3)


def test_the_probe_knows_nothing_of_the_scene_that_it_is_read_on() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    noise = [Marked(scene, [float(label)], rng.normal(size=40).tolist()) for scene, label in enumerate(labels)]
    shown = [Marked(scene, [float(label)], [float(label), *rng.normal(size=5)]) for scene, label in enumerate(labels)]
    blind, seeing = score_pooled(probe_scores(noise)), score_pooled(probe_scores(shown))
    assert blind is not None
    assert 0.4 < blind.value < 0.6
    assert seeing is not None
    assert seeing.value > 0.95


def test_methods_mend_what_was_wrong_and_break_what_was_right() -> None:
    about = {"label": "vcd", "is_control": False}
    plain = {str(number): {"right": right} for number, right in enumerate((0.0, 0.0, 1.0, 1.0, 1.0))}
    treated = {str(number): {"right": right, **about} for number, right in enumerate((1.0, 1.0, 0.0, 1.0, 1.0))}
    (remedy,) = remedies("tiny-sinks", plain, {"method: vcd": treated})
    assert (remedy.mended, remedy.broken, remedy.before, remedy.after) == (2, 1, 0.6, 0.8)
    assert remedy.points == pytest.approx(20.0)
    assert remedy.p_value == 1.0


def test_a_method_is_named_without_the_sinks_of_its_model() -> None:
    assert name_without_sinks("var:dims=23+46,tau=4.6,p=0.0") == "var:p=0.0"
    assert name_without_sinks("mask_sinks:dims=23+46") == "mask_sinks"


@pytest.mark.parametrize("draw", [existence_cases, insertion_cases, pair_cases, place_cases])
def test_more_scenes_begin_with_those_of_fewer(draw: object) -> None:
    assert callable(draw)
    few, many = draw("x", 6, 0), draw("x", 12, 0)
    assert [(case.id, case.scene, case.question) for case in few] == [
        (case.id, case.scene, case.question) for case in many[:6]
    ]
    assert {case.question.answer for case in many} <= {"yes", "no"}


def test_the_other_picture_differs_in_the_object_alone() -> None:
    for case in insertion_cases("x", 8, 0):
        assert case.other is not None
        pair = sorted((case.scene, case.other), key=lambda scene: len(scene.items))
        assert case.kind not in pair[0].kinds
        assert pair[1].kinds.count(case.kind) == 1
        assert [item for item in pair[1].items if item.kind != case.kind] == list(pair[0].items)
        assert (case.kind in case.scene.kinds) == (case.question.answer == "yes")


def test_the_picture_in_anothers_place_is_the_same_for_all_models_and_is_another() -> None:
    case = existence_cases("x", 1, 0)[0]
    assert stranger(case, 0).tobytes() == stranger(case, 0).tobytes() != case.picture.tobytes()
