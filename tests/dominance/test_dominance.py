"""MDI and AEI equal the plain formula on eager attention, for every family and query set."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch

from attention.plain import eager_twin
from families import BY_NAME, FAMILIES, PADDING, TEXT, Family, str_of
from sightline.errors import InputError, SightlineError
from sightline.models.anatomy import find_anatomy
from sightline.probes.dominance import Dominance, SampleDominance

GENERATE = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
BOS_ID = 1


@lru_cache(maxsize=1)
@torch.no_grad()
def eager_attention(name: str, batch: int, generates: bool) -> tuple[Any, Any]:
    """The layers with attention, and by forward pass the weights of each."""
    family = BY_NAME[name]
    model, case = eager_twin(family.model()), family.make_inputs(batch=batch, padding=None if batch == 1 else "left")
    if not generates:
        return find_anatomy(model).attention_layers, [model(**case.inputs, output_attentions=True).attentions]
    made = model.generate(**case.inputs, **GENERATE, output_attentions=True, return_dict_in_generate=True)
    return find_anatomy(model).attention_layers, made.attentions


def plain_rows(family: Family, case: Any, queries: str) -> list[dict[int, torch.Tensor]]:
    """By sample and layer, the mean over heads and query rows of eager attention: [input positions]."""
    layers, steps = eager_attention(family.name, len(case.modality), queries == "generated")
    modality = torch.tensor(case.modality)
    length = modality.shape[1]
    wanted = modality == TEXT if queries == "prompt" else modality != PADDING
    samples = []
    for sample in range(len(modality)):
        means = {}
        for position, layer in enumerate(layers):
            rows = []
            for number, step in enumerate(steps):
                kept = [attention for attention in step if attention is not None]
                found = kept[position][sample].mean(0)
                # A sliding-window cache has dropped the oldest keys, which the row gives nothing.
                found = torch.nn.functional.pad(found, (length + number - found.shape[-1], 0))
                rows.append(found[-1:] if queries == "generated" else found[wanted[sample]])
            means[layer] = torch.cat([row[:, :length] for row in rows]).mean(0)
        samples.append(means)
    return samples


def plain_mdi(weights: torch.Tensor, text: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
    text_mass, other_mass = float(weights[text].sum()), float(weights[other].sum())
    text_share = float(text.sum() / (text.sum() + other.sum()))
    mdi = (text_mass / text.sum()) / (other_mass / other.sum())
    return float(mdi), text_mass / (text_mass + other_mass) / text_share


# Their eager and SDPA runs differ by more than rounding in later layers (the gated delta rule; logits of thousands):
# test_exact.py compares them call by call.
CALL_BY_CALL = {"qwen3_5", "gemma4"}
MODELS = [family for family in FAMILIES if family.name not in CALL_BY_CALL]


# A batch holds a sample without padding too; alone, it is followed through decoding.
CASES = [(2, "prompt"), (2, "all"), (2, "generated"), (1, "generated")]


@pytest.mark.parametrize(("batch", "queries"), CASES)
@pytest.mark.parametrize("family", MODELS, ids=str_of)
def test_equals_the_plain_formula(family: Family, batch: int, queries: str) -> None:
    case = family.make_inputs(batch=batch, padding=None if batch == 1 else "left")
    model = family.model()
    with torch.no_grad(), Dominance(queries=queries).on(model) as probe:
        if queries == "generated":
            model.generate(**case.inputs, **GENERATE)
        else:
            model(**case.inputs)
    result = probe.result()
    assert len(result.samples) == batch
    plain = plain_rows(family, case, queries)
    for index, sample in enumerate(result.samples):
        kinds = torch.tensor(case.modality[index])
        text, other = kinds == TEXT, (kinds != TEXT) & (kinds != PADDING)
        assert sample.tokens["text"] == int(text.sum())
        if queries == "generated":
            assert sample.rows == 4
        for layer in sample.layers:
            weights = plain[index][layer.layer]
            if not bool(other.any()):
                assert sample.mdi(layer) is None
                continue
            if float(weights[other].sum()) < 1e-6:
                continue
            mdi, aei = plain_mdi(weights, text, other)
            assert sample.mdi(layer) == pytest.approx(mdi, rel=1e-3, abs=1e-5)
            assert sample.aei(layer) == pytest.approx(aei, rel=1e-3, abs=1e-5)
            first = torch.cumsum(kinds != PADDING, 0) == 1
            sinks = first | (case.inputs["input_ids"][index] == BOS_ID)
            without = plain_mdi(weights, text & ~sinks, other)[0]
            assert sample.mdi(layer, with_sinks=False) == pytest.approx(without, rel=1e-3, abs=1e-5)


def llava() -> Family:
    return BY_NAME["llava"]


def test_steps_after_the_end_of_a_sample_do_not_count() -> None:
    family = llava()
    case = family.make_inputs(batch=2)
    model = family.model()
    answers = [[5, 2], [6, 0], [7, 0]]

    def forced(batch_id: int, ids: torch.Tensor) -> list[int]:
        return [answers[ids.shape[-1] - case.inputs["input_ids"].shape[1]][batch_id]]

    with torch.no_grad(), Dominance().on(model) as probe:
        model.generate(
            **case.inputs,
            max_new_tokens=3,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=0,
            prefix_allowed_tokens_fn=forced,
        )
    assert [sample.rows for sample in probe.result().samples] == [3, 1]


@pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}, {"num_beams": 3}])
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3", "mistral"])
def test_every_way_of_generating_reads_the_same(name: str, options: dict[str, Any]) -> None:
    family = BY_NAME[name]
    case, model = family.make_inputs(), family.model()
    greedy = GENERATE | options

    with torch.no_grad(), Dominance().on(model) as probe:
        model.generate(**case.inputs, **greedy, disable_compile=True)
    samples = probe.result().samples
    assert len(samples) == options.get("num_beams", 1)
    assert {sample.rows for sample in samples} == {4}
    if "num_beams" in options:
        return
    with torch.no_grad(), Dominance().on(model) as plain:
        model.generate(**case.inputs, **GENERATE)
    for ours, theirs in zip(samples[0].layers, plain.result().samples[0].layers, strict=True):
        assert ours.masses == pytest.approx(dict(theirs.masses), abs=1e-5)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
def test_rows_that_wait_equal_rows_read_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = BY_NAME[name]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    results = []
    for longest in (64, 2, 0):
        monkeypatch.setattr("sightline.attention.row_buffer.LONGEST", longest)
        if longest == 0:
            monkeypatch.setattr("sightline.attention.row_buffer._can_wait", lambda call, step: False)
        with torch.no_grad(), Dominance().on(model) as probe:
            model.generate(**case.inputs, max_new_tokens=6, min_new_tokens=6, do_sample=False)
        results.append(probe.result())
    for other in results[1:]:
        for ours, theirs in zip(results[0].samples, other.samples, strict=True):
            for layer, same in zip(ours.layers, theirs.layers, strict=True):
                assert layer.masses == pytest.approx(dict(same.masses), abs=1e-6)


def test_beams_read_each_row_with_its_own_keys() -> None:
    """The cache is reordered between steps: rows that wait must not meet another beam's keys."""
    family = llava()
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    options = {"num_beams": 4, "max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    with torch.no_grad(), Dominance().on(model) as probe:
        model.generate(**case.inputs, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.attention.row_buffer._can_wait", lambda call, step: False)
        with torch.no_grad(), Dominance().on(model) as plain:
            model.generate(**case.inputs, **options)
    assert len(probe.result().samples) == len(plain.result().samples) == 8
    for ours, theirs in zip(probe.result().samples, plain.result().samples, strict=True):
        for layer, same in zip(ours.layers, theirs.layers, strict=True):
            assert layer.masses == pytest.approx(dict(same.masses), abs=1e-6)


def test_several_prompts_in_one_with_are_samples_in_order() -> None:
    family = llava()
    cases = [family.make_inputs(images=1), family.make_inputs(images=2)]
    with torch.no_grad(), Dominance(queries="all").on(family.model()) as probe:
        for case in cases:
            family.model()(**case.inputs)
    samples = probe.result().samples
    assert [sample.tokens["image"] for sample in samples] == [sum(k == 2 for k in case.modality[0]) for case in cases]


def test_a_sample_survives_its_dictionary() -> None:
    family = llava()
    with torch.no_grad(), Dominance(queries="prompt").on(family.model()) as probe:
        family.model()(**family.make_inputs().inputs)
    sample = probe.result().samples[0]
    assert SampleDominance.from_dict(sample.to_dict()) == sample


def test_gradient_checkpointing_reads_once() -> None:
    family = llava()
    model = family.build().train()
    case = family.make_inputs()
    with Dominance(queries="all").on(model) as plain, torch.no_grad():
        model(**case.inputs)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with Dominance(queries="all").on(model) as probe:
        model(**case.inputs, use_cache=False).logits.sum().backward()
    ours, theirs = probe.result().samples, plain.result().samples
    assert len(ours) == len(theirs) == 1
    assert ours[0].rows == theirs[0].rows


def test_mistakes_are_said() -> None:
    with pytest.raises(InputError, match="query set called 'last'"):
        Dominance(queries="last")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="stages called 'halves'"):
        Dominance(stages="halves")  # type: ignore[arg-type]
    with Dominance().on(llava().model()) as probe, pytest.raises(SightlineError, match="Nothing was measured"):
        probe.result()
