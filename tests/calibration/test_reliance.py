"""Reliance predicted from pictures exchanged between samples: the fit, its reading, and `measure` with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sightline as sl
from sightline.calibration.cases import insertion_cases, stranger
from sightline.calibration.exchange import exchange_effects, partners
from sightline.calibration.instruments import INSTRUMENTS
from sightline.calibration.reliance import RelianceFit, bundled_fit
from sightline.calibration.reliance_fit import fit_reliance
from sightline.calibration.subject import Subject


def drawn(share: float, count: int = 200, seed: int = 0) -> list[tuple[float, float]]:
    """Answers of which a share follows the picture: of these half turn, by 8 nats or so, all others by about 1e-3."""
    rng = np.random.default_rng(seed)
    follows = rng.random(count) < share
    effects = np.where(follows & (rng.random(count) < 0.5), 8.0, 1e-3) * np.exp(0.3 * rng.normal(size=count))
    return list(zip(effects.tolist(), follows.astype(float).tolist(), strict=True))


def test_a_model_left_out_is_predicted_where_the_reading_tells() -> None:
    shares = (0.0, 0.3, 0.7, 1.0)
    fit = fit_reliance({str(share): drawn(share, 4000, seed=place) for place, share in enumerate(shares)})
    assert fit.error < 0.08
    assert 1.6 < fit.slope < 2.4
    assert [each.model for each in fit.left_out] == ["0.0", "0.3", "0.7", "1.0"]
    found = fit.estimate([effect for effect, _ in drawn(0.5, 400, seed=9)])
    assert found.ci95[0] < 0.5 < found.ci95[1]
    assert found.share == pytest.approx(0.5, abs=0.1)
    assert found.turned == pytest.approx(0.25, abs=0.05)


def test_a_reading_that_says_nothing_shows_in_the_error() -> None:
    noise = {share: [(1.0, label) for _, label in drawn(float(share))] for share in ("0.0", "0.5", "1.0")}
    fit = fit_reliance(noise)
    assert fit.error > 0.3
    low, high = fit.estimate([1.0] * 100).ci95
    assert high - low > 0.9


def test_the_fit_survives_its_document() -> None:
    fit = fit_reliance({str(share): drawn(share, 50) for share in (0.0, 0.5, 1.0)})
    assert RelianceFit.from_dict(fit.to_dict()) == fit


def test_too_few_models_and_no_answers_are_refused() -> None:
    with pytest.raises(sl.InputError, match="needs 3 models"):
        fit_reliance({"a": drawn(0.0), "b": drawn(1.0)})
    with pytest.raises(sl.InputError, match="give several samples"):
        bundled_fit().estimate([])


def test_the_reading_is_that_of_the_instrument_it_was_fitted_on() -> None:
    vlm = sl.load("tiny-llava", dtype="float32")
    cases = insertion_cases("follows", 3, 0)
    subject = Subject(vlm)
    plain = [INSTRUMENTS["picture exchanged"].answer(subject, case)[0] for case in cases]
    others: list[sl.Sample | None] = [replace(case.sample, images=(stranger(case, 0),)) for case in cases]
    samples = [case.sample for case in cases]
    assert exchange_effects(vlm, samples, others) == pytest.approx(plain, rel=1e-3, abs=1e-5)
    assert exchange_effects(vlm, samples, [None, others[1], None])[::2] == [None, None]


def test_partners_have_another_picture_and_as_many() -> None:
    pictures = [case.picture for case in insertion_cases("x", 3, 0)]
    samples = [
        sl.Sample(prompt="a", images=(pictures[0],), id="a"),
        sl.Sample(prompt="b", images=(pictures[0].copy(),), id="b"),
        sl.Sample(prompt="c", images=(pictures[1],), id="c"),
        sl.Sample(prompt="d", images=(pictures[1], pictures[2]), id="d"),
        sl.Sample(prompt="e", id="e"),
    ]
    found = {name: other and other.id for name, other in partners(samples).items()}
    assert found["a"] == found["b"] == "c"
    assert found["c"] in ("a", "b")
    assert found["d"] is found["e"] is None


@pytest.fixture(scope="module")
def measured() -> Any:
    samples = [case.sample for case in insertion_cases("follows", 12, 1)]
    return sl.measure(["tiny-reliance-000", "tiny-reliance-100"], samples, reliance=True, maps=0, new_tokens=2)


def test_measure_finds_out_which_model_does_not_look(measured: Any) -> None:
    looks, looks_not = (each["reliance"] for each in measured.to_dict()["models"])
    assert looks["share"] > looks_not["share"] + 0.2
    assert looks["n"] == looks_not["n"] == 12
    assert looks["ci95"][0] <= looks["share"] <= looks["ci95"][1]


def test_measure_prints_it_with_what_it_is_worth(measured: Any) -> None:
    text = str(measured)
    assert "of answers follow the picture (95% interval" in text
    assert "not known" in text
    assert "MDI" in text


def test_without_the_flag_nothing_is_predicted() -> None:
    samples = [case.sample for case in insertion_cases("follows", 1, 1)]
    found = sl.measure("tiny-reliance-000", samples, maps=0, new_tokens=1)
    assert "reliance" not in found.to_dict()
    assert "reliance" not in found.runs[0].settings


def test_what_ships_was_checked_on_models_left_out() -> None:
    fit = bundled_fit()
    assert {"tiny-reliance-000", "tiny-reliance-100"} <= {each.model for each in fit.left_out}
    errors = [each.truth - each.predicted for each in fit.left_out]
    assert fit.error == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))))
