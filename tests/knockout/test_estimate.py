"""Estimates of causal impact: the cut exact, what follows linear; and how far they agree with exact cuts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

import sightline as sl
from families import BY_NAME, IMAGE
from knockout.plain_impact import some_groups
from sightline.errors import InputError, ModelError
from sightline.knockout import estimate_check
from sightline.knockout.estimate_check import FEWEST, sampled
from sightline.knockout.reader import read_row
from sightline.models.anatomy import find_anatomy
from support.leftovers import state_of

NAMES = ["llava", "qwen3_vl", "gemma4"]


@pytest.mark.parametrize("name", NAMES)
def test_of_a_small_effect_the_estimate_is_the_effect(name: str) -> None:
    """The first order is the whole of it where the rest is small: the cut's share of each head is made a 1,000th."""
    model, inputs = deepcopy(BY_NAME[name].model()).double(), BY_NAME[name].make_inputs().inputs
    length = inputs["input_ids"].shape[1]
    groups = some_groups(length, length - 1)[1::2]
    with read_row(model, {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}) as reader:
        for layer in reader._rerun.capture.layers:
            if layer.row is not None:
                faint = layer.row
                changes = type(faint).changes
                object.__setattr__(faint, "changes", lambda hidden, of=faint, whole=changes: 1e-3 * whole(of, hidden))
        exact, estimated = reader.causal(groups), reader.estimate(groups)
    for measure in ("logit", "logprob"):
        a, b = exact[measure].double(), estimated[measure].double()
        assert torch.equal(a.isnan(), b.isnan())
        scale = b.nan_to_num().abs().max()
        assert scale > 0
        assert float((a - b).nan_to_num().abs().max()) < 0.02 * float(scale)


def test_windows_add_up_and_blind_rows_are_missing() -> None:
    model, inputs = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs().inputs
    length = inputs["input_ids"].shape[1]
    groups = [(3,), tuple(range(length))]
    with read_row(model, inputs) as reader:
        single, wide = reader.estimate(groups), reader.estimate(groups, layers=[1], window=3)
    assert torch.allclose(wide["logprob"][0, 0], single["logprob"][:3, 0].sum(), rtol=1e-4)
    assert bool(single["logprob"][:, 1].isnan().all())


def test_the_model_is_as_before_and_needs_no_gradients() -> None:
    model, inputs = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs().inputs
    before = state_of(model)
    needs = [parameter.requires_grad for parameter in model.parameters()]
    with read_row(model, inputs) as reader:
        found = reader.estimate([(2,)])
    assert state_of(model) == before
    assert [parameter.requires_grad for parameter in model.parameters()] == needs
    assert not any(parameter.grad is not None for parameter in model.parameters())
    assert not found["logprob"].requires_grad


def test_a_layer_without_a_gradient_is_one_sentence() -> None:
    family = BY_NAME["qwen3_5"]  # whose reference kernel of linear attention writes its state in place
    with (
        read_row(family.model(), family.make_inputs().inputs) as reader,
        pytest.raises(ModelError, match="no gradient"),
    ):
        reader.estimate([(1,)])


def test_a_row_that_others_read_is_refused() -> None:
    family = BY_NAME["gemma3"]
    row = family.make_inputs().modality[0].index(IMAGE) + 2
    with read_row(family.model(), family.make_inputs().inputs, row) as reader, pytest.raises(InputError, match="estim"):
        reader.estimate([(1,)])


def test_a_study_cuts_the_largest_and_a_sample_and_says_how_far_the_rest_agrees(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimate_check, "WHOLE", 0)
    monkeypatch.setattr(estimate_check, "FEWEST", 3)
    model, inputs = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs().inputs
    exact = sl.impact(model, inputs)
    with read_row(model, inputs) as reader:
        plain = reader.estimate([source.positions for source in exact.tokens])["logprob"].double().numpy()
    found = sl.impact(model, inputs, estimate="gradient")
    assert set(found.maps) == {"logit", "prob", "logprob", "exact"}
    assert found.settings["estimate"] == "gradient"
    assert "estimate" not in exact.settings
    is_cut = found.values("exact") == 1
    ours, wanted = found.values("logprob"), exact.values("logprob")
    assert ours[is_cut] == pytest.approx(wanted[is_cut], rel=1e-3, abs=1e-6)
    assert ours[~is_cut] == pytest.approx(plain[~is_cut], abs=1e-6)
    assert is_cut.reshape(-1)[np.argsort(-np.abs(plain).reshape(-1))[: len(exact.tokens)]].all()
    sample = is_cut.all(0)
    assert 3 <= sample.sum() < len(sample)
    about = found.estimate
    assert (about["cut"], about["of"]) == (is_cut.sum(), is_cut.size)
    assert about["edges"] < about["cut"] < about["of"]
    assert about["rank_correlation"] > 0.8
    again = type(found).from_dict(found.to_dict())
    assert again.estimate == about
    assert "a sample, the gradient's ranks agree by" in again.estimate_notes()[0]


def test_a_small_map_is_cut_as_a_whole() -> None:
    model, inputs = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs().inputs
    exact, found = sl.impact(model, inputs), sl.impact(model, inputs, estimate="gradient")
    assert found.estimate["cut"] == found.estimate["of"] == exact.values("logprob").size
    assert found.values("logprob") == pytest.approx(exact.values("logprob"), rel=1e-3, abs=1e-6)
    assert "cut exactly" in found.estimate_notes()[0]


@pytest.mark.parametrize("fields", [{"mode": "local"}, {"scope": "every-row"}, {"unit": "head"}, {"estimate": "best"}])
def test_settings_without_an_estimate_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="estimate"):
        sl.Study(**{"estimate": "gradient", **fields})


def test_the_sample_is_seeded_and_takes_about_a_pass() -> None:
    assert sampled(10, 4, 0) == list(range(10))
    assert sampled(640, 32, 0) == sampled(640, 32, 0) != sampled(640, 32, 1)
    assert len(sampled(640, 32, 0)) * 32 / 2 / 640 == pytest.approx(1, abs=0.05)
    assert len(sampled(100, 60, 0)) == FEWEST


def test_rows_that_end_as_their_twin_stay_behind() -> None:
    """In bfloat16 a source that is hardly looked at changes no bit: its effect is 0 and its row goes no further."""
    model = deepcopy(BY_NAME["llava"].model()).to(torch.bfloat16)
    inputs = {
        name: value.bfloat16() if value.is_floating_point() else value
        for name, value in BY_NAME["llava"].make_inputs().inputs.items()
    }
    length = inputs["input_ids"].shape[1]
    anatomy = find_anatomy(model)
    carried: list[int] = []
    handle = anatomy.layers[-1].register_forward_pre_hook(lambda _, args: carried.append(len(args[0])))
    try:
        with read_row(model, inputs) as reader:
            groups = [(position,) for position in range(length)]
            carried.clear()
            plain = reader.causal(groups)
            whole = sum(carried)
            for layer in reader._rerun.capture.layers[:-1]:
                row = layer.row
                assert row is not None
                object.__setattr__(row, "changes", lambda hidden, of=row: 1e-6 * type(of).changes(of, hidden))
            carried.clear()
            faint = reader.causal(groups)
    finally:
        handle.remove()
    assert sum(carried) < whole / 2
    assert bool((faint["kl"][:-1] == 0).all())
    assert torch.equal(faint["kl"][-1], plain["kl"][-1])
