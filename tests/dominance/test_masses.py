"""Laws of the two indices, aggregation, and what is published."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import InputError
from sightline.probes.dominance import (
    PUBLISHED,
    LayerMass,
    SampleDominance,
    aggregate,
    attention_efficiency,
    beside_published,
    identity_notes,
    modality_dominance,
    stage_layers,
    summarise,
)

masses = st.floats(1e-6, 1.0)
counts = st.integers(1, 5000)


@given(masses, counts, masses, counts)
def test_identity_between_mdi_and_aei(text: float, n_text: int, other: float, n_other: int) -> None:
    mdi = modality_dominance(text, n_text, other, n_other)
    aei = attention_efficiency(text, n_text, other, n_other)
    share = n_text / (n_text + n_other)
    assert mdi is not None
    assert aei == pytest.approx(mdi / (1 + share * (mdi - 1)), rel=1e-9)
    assert aei <= 1 / share * (1 + 1e-12)
    assert min(1, mdi) * (1 - 1e-9) <= aei <= max(1, mdi) * (1 + 1e-9)


@given(counts, counts, st.floats(1e-6, 1.0))
def test_uniform_attention_is_balanced(n_text: int, n_other: int, weight: float) -> None:
    assert modality_dominance(weight * n_text, n_text, weight * n_other, n_other) == pytest.approx(1)
    assert attention_efficiency(weight * n_text, n_text, weight * n_other, n_other) == pytest.approx(1)


def test_undefined_indices_are_none() -> None:
    assert modality_dominance(0.5, 3, 0.0, 4) is None
    assert modality_dominance(0.5, 3, 0.5, 0) is None
    assert modality_dominance(0.0, 0, 0.5, 4) is None
    assert attention_efficiency(0.0, 3, 0.0, 4) is None
    assert attention_efficiency(0.5, 3, 0.0, 4) == pytest.approx(7 / 3)


def sample(text: float, image: float, sink: float = 0.0, layers: int = 8) -> SampleDominance:
    entry = {"text": text, "image": image, "text_sinks": sink}
    tokens = {"text": 10, "image": 40, "text_sinks": 1}
    return SampleDominance("generated", 3, tokens, tuple(LayerMass(layer, entry) for layer in range(layers)))


def test_sinks_are_left_out_of_masses_and_counts() -> None:
    one = sample(0.6, 0.2, sink=0.51)
    assert one.mdi(one.layers[0]) == pytest.approx((0.6 / 10) / (0.2 / 40))
    assert one.mdi(one.layers[0], with_sinks=False) == pytest.approx((0.09 / 9) / (0.2 / 40))


def test_aggregate_is_per_sample_first() -> None:
    result = aggregate([sample(0.6, 0.2), sample(0.2, 0.6)], model="m")
    figures = result.stages()["early"]
    assert figures["layers"] == [0, 1]
    assert figures["mdi"] == pytest.approx((12 + 4 / 3) / 2)
    assert figures["mdi_std"] == pytest.approx((12 - 4 / 3) / math.sqrt(2))
    low, high = figures["mdi_ci95"]
    assert 4 / 3 - 1e-9 <= low <= high <= 12 + 1e-9
    document = result.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["tokens"] == {"image": 40, "text": 10}
    assert {"layer", "mdi", "mdi_std", "aei", "aei_std", "mdi_no_sinks", "text_mass", "image_mass"} <= set(
        document["layers"][0]
    )
    assert len(result.to_pandas()) == 16


def test_a_result_prints_its_stages_and_not_its_samples() -> None:
    result = aggregate([sample(0.6, 0.2), sample(0.2, 0.6)], model="m")
    first, early, *_ = str(result).splitlines()
    assert first == "m: 2 samples, queries generated"
    assert early.split() == "early MDI 6.67 ± 7.54 AEI 2.50 ± 1.77 layers 0, 1".split()
    assert str(aggregate([sample(0.6, 0.0)])).splitlines()[1].startswith("early   MDI -  AEI ")
    assert "SampleDominance" not in repr(result)
    assert len(repr(result)) < 200


def test_aggregate_refuses_what_does_not_belong_together() -> None:
    with pytest.raises(InputError, match="no measured sample"):
        aggregate([])
    with pytest.raises(InputError, match="other layers"):
        aggregate([sample(0.5, 0.5), sample(0.5, 0.5, layers=4)])
    with pytest.raises(InputError, match="'generated' queries"):
        aggregate([sample(0.5, 0.5)], queries="all")


def test_a_sample_without_image_attention_does_not_spoil_the_mean() -> None:
    result = aggregate([sample(0.6, 0.2), sample(0.6, 0.0)])
    assert result.layer_figures[0]["mdi"].count == 1
    assert result.layer_figures[0]["mdi"].mean == pytest.approx(12)
    assert result.layer_figures[0]["mdi"].ci95 is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_summaries_hold_their_mean(values: list[float]) -> None:
    found = summarise(values)
    assert found.ci95 is not None
    assert found.mean is not None
    slack = 1e-9 * max(1.0, max(map(abs, values)))
    assert min(values) - slack <= found.ci95[0] <= found.ci95[1] <= max(values) + slack
    assert found == summarise(values)


@given(st.integers(1, 80))
def test_stages_are_layers_in_order(count: int) -> None:
    layers = list(range(0, 3 * count, 3))
    paired = stage_layers(layers)
    assert paired["early"] == layers[:2]
    assert paired["late"] == layers[-2:]
    assert paired["middle"] == layers[max(0, count // 2 - 1) : count // 2 + 1]
    thirds = stage_layers(layers, "thirds")
    assert thirds["early"] + thirds["middle"] + thirds["late"] == layers
    assert max(map(len, thirds.values())) - min(map(len, thirds.values())) <= 1


def test_published_rows_that_break_the_identity_are_named() -> None:
    broken = {name: sorted(identity_notes(row)) for name, row in PUBLISHED.items()}
    assert broken["qwen2-audio-7b-x1"] == ["early"]
    assert broken["llava-1.5-7b"] == ["early"]
    assert broken["llava-1.5-7b-95"] == ["late"]
    assert broken["llava-1.5-7b-75"] == []
    assert broken["chatts-14b-x10"] == ["early"]


def test_comparison_says_difference_and_deviation() -> None:
    result = aggregate([sample(0.6, 0.2), sample(0.2, 0.6)], model="m")
    rows = beside_published(result, "llava-1.5-7b")
    assert [(row["stage"], row["index"]) for row in rows[:2]] == [("early", "mdi"), ("early", "aei")]
    assert rows[0]["difference"] == pytest.approx(rows[0]["ours"] - 1.58)
    assert rows[0]["within_one_std"] is True
    assert rows[0]["same_queries"] is True
    assert "%" in rows[0]["note"]
    with pytest.raises(InputError, match="no published row named 'x'"):
        beside_published(result, "x")
