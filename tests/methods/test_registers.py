"""Test-time registers equal a tower in plain loops, and take planted outliers away."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.jobs.impact_config import Request
from sightline.jobs.impact_files import lists_of
from sightline.jobs.impact_plan import ImpactPlan
from sightline.jobs.impact_settings import ImpactSettings
from sightline.jobs.models import ModelSource
from sightline.knockout.measures import ACTS
from sightline.methods.base import parse_spec
from sightline.methods.registers import Registers
from sightline.methods.tower_tokens import Pictures
from sightline.models.anatomy import find_anatomy
from sightline.pages.page_maps import impact_maps
from sightline.pages.tables.impact import sections
from sightline.probes.dominance import Dominance
from sightline.probes.register_neurons import FACTOR, find_register_neurons, tower_norms
from sightline.results.plain import plain_text
from support.cells import alone, run
from support.leftovers import state_of

PATCH, NEURON = 4, 7


@cache
def planted() -> tuple[Any, dict[str, Tensor]]:
    """A LLaVA whose tower has one neuron, 0.7, that one patch alone fires, with a norm far above all others."""
    family = BY_NAME["llava"]
    model: Any = family.build().eval()
    inputs = family.make_inputs(1, None).inputs
    torch.nn.init.normal_(model.model.vision_tower.pre_layrnorm.bias, std=0.3, generator=torch.manual_seed(3))
    layer = model.model.vision_tower.encoder.layers[0]
    seen: list[Tensor] = []
    hook = layer.layer_norm2.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    with torch.no_grad():
        model(**inputs)
        hook.remove()
        state = seen[0][PATCH + 1]
        close = (seen[0] @ state).sort(descending=True).values
        layer.mlp.fc1.weight[NEURON] = 5 * state
        layer.mlp.fc1.bias[NEURON] = -5 * close[1]
        layer.mlp.fc2.weight[:, NEURON] = 3.0
    return model, inputs


def plain_tower(tower: Any, pixels: Tensor, neurons: dict[int, list[int]], count: int) -> list[Tensor]:
    """What leaves each layer, patches and class token, by a CLIP tower in plain loops."""
    x = tower.embeddings(pixels)
    x = tower.pre_layrnorm(torch.cat([x, torch.zeros(len(x), count, x.shape[-1])], 1))
    states = []
    for number, layer in enumerate(tower.encoder.layers):
        own, h = layer.self_attn, layer.layer_norm1(x)
        parts = [part(h).unflatten(-1, (own.num_heads, -1)) for part in (own.q_proj, own.k_proj, own.v_proj)]
        q, k, v = (part.transpose(1, 2) for part in parts)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + own.out_proj((weights @ v).transpose(1, 2).flatten(2))
        a = layer.mlp.activation_fn(layer.mlp.fc1(layer.layer_norm2(x)))
        for neuron in neurons.get(number, ()):
            highest = a[:, :, neuron].amax(1)
            for token in range(1, a.shape[1]):
                a[:, token, neuron] = 0 if token < a.shape[1] - count else highest
        x = x + layer.mlp.fc2(a)
        states.append(x[:, :-count])
    return states


@pytest.mark.parametrize("count", [1, 3])
def test_the_tower_is_one_with_more_tokens_in_plain_loops(count: int) -> None:
    model, inputs = planted()
    tower, pixels = model.model.vision_tower, inputs["pixel_values"]
    tower(pixels, output_hidden_states=True)  # the library installs hooks of its own at the first pass
    state = state_of(model)
    with torch.no_grad():
        before = tower(pixels, output_hidden_states=True).hidden_states
        expected = plain_tower(tower, pixels, {0: [NEURON, 2], 1: [5]}, count)
        with Registers(("0.7", "0.2", "1.5"), count).on(model):
            found = tower(pixels, output_hidden_states=True).hidden_states
        after = tower(pixels, output_hidden_states=True).hidden_states
    assert torch.equal(found[0], before[0])
    for ours, plain in zip(found[1:], expected, strict=True):
        assert torch.allclose(ours, plain, atol=1e-5)
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert state_of(model) == state


@pytest.mark.parametrize(("peak", "first", "second"), [("neuron", 0.99, 0.94), ("layer", -1.0, -1.0)])
def test_activations_move_as_in_the_public_code(peak: Any, first: float, second: float) -> None:
    """Numbers of `activate_on_registers` of nickjiang2378/test-time-registers: at 341e15e, and at 860df43."""
    a = torch.sin(1.7 * torch.arange(6)[:, None] + 2.9 * torch.arange(5)).mul(100).round()[None] / 100
    after = a.clone()
    after[0, 1:4, [1, 3]] = 0
    after[0, 4:, 1], after[0, 4:, 3] = first, second
    pictures = Pictures.of([4], 2, True, None, "cpu")
    assert torch.equal(Registers(("0.1", "0.3"), count=2, peak=peak).move(a, [1, 3], pictures), after)


@pytest.mark.parametrize("family", ["qwen2_vl", "pixtral", "idefics2", "gemma4"])
def test_pictures_that_are_packed_or_padded_have_registers_of_their_own(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    with Registers(("0.3", "0.5", "1.1"), count=2).on(model):
        both, one = run(model, case.inputs, max_new_tokens=1), run(model, alone(case), max_new_tokens=1)
    assert torch.allclose(both.scores[0][:1], one.scores[0], atol=2e-4)
    assert not torch.equal(both.scores[0], run(model, case.inputs, max_new_tokens=1).scores[0])


def test_planted_outliers_are_found_and_lose_their_norm() -> None:
    model, inputs = planted()
    anatomy = find_anatomy(model)
    found = find_register_neurons(model, [inputs, inputs], count=2)
    assert found.neurons[0] == f"0.{NEURON}"
    assert (found.outliers, found.patches, found.layer, found.last_layer) == (2, 18, 0, 0)
    assert found.ratio > FACTOR
    before = tower_norms(anatomy, inputs).values[0, 1:]
    after = tower_norms(anatomy, inputs, sl.Registers(found.neurons[:1])).values[0, 1:]
    assert int(before.argmax()) == PATCH
    assert after.max() < FACTOR * after.median()
    random = tower_norms(anatomy, inputs, sl.Registers(found.neurons[:1], random=True)).values[0, 1:]
    assert int(random.argmax()) == PATCH
    assert random.max() > FACTOR * random.median(), "another neuron's activations are not what makes the norm"


def test_scores_are_mean_activations_at_the_outliers() -> None:
    model, inputs = planted()
    seen: list[Tensor] = []
    hook = model.model.vision_tower.encoder.layers[0].mlp.fc2.register_forward_pre_hook(
        lambda module, args: seen.append(args[0][0])
    )
    found = find_register_neurons(model, [inputs], count=3, threshold=0.1)
    hook.remove()
    assert found.outliers == found.patches == 9
    expected = seen[0][1:].abs().mean(0).topk(3)
    assert found.scores == pytest.approx(expected.values.tolist(), rel=1e-4)
    assert found.neurons == tuple(f"0.{neuron}" for neuron in expected.indices.tolist())


def test_maps_show_norms_before_and_after_and_name_the_neurons(tmp_path: Path) -> None:
    model, inputs = planted()
    (found,) = sl.Study(mode="registers", layers=(0,)).run(model, inputs)
    before, after = found.values("norm")[0], found.values("norm_registers")[0]
    assert int(before.argmax()) == PATCH
    assert found.tokens[PATCH].text == "row 1, column 1"
    assert after.max() < before.max() / 2
    shown = impact_maps([found])
    assert [word for word, _ in shown["words"]] == ["before", "with registers"]
    assert shown["mean"]["shape"] == [2, 1, 9]
    words = plain_text(sections(found.to_dict()))
    assert "1 of 9 patches are outliers" in words
    assert f"that make them: 0.{NEURON}," in words
    listed = lists_of([found])["registers"]
    assert listed["neurons"][0] == f"0.{NEURON}"
    (tmp_path / "registers.json").write_text(json.dumps(listed))
    assert sl.Registers((str(tmp_path / "registers.json"),)).neurons == tuple(listed["neurons"])


def test_a_tower_without_outliers_has_norms_alone() -> None:
    family = BY_NAME["qwen3_vl"]
    model, inputs = family.model(), family.make_inputs(1, None).inputs
    (found,) = sl.Study(mode="registers").run(model, inputs)
    assert list(found.maps) == ["norm"]
    assert (found.baseline["outliers"], found.baseline["neurons"]) == (0, [])
    assert lists_of([found]) == {}
    plan = ImpactPlan(
        ModelSource("m"), (Request(sl.Sample("a"), sl.Study(mode="registers")),), ImpactSettings(), None, True
    )
    assert plan.files(Path("nowhere")) == ""
    assert "None of 24 patches is an outlier" in plain_text(sections(found.to_dict()))
    assert ACTS["registers"] == "looked at"
    with pytest.raises(InputError, match="None of 24 patches has a norm above 3 medians behind layer"):
        sl.find_register_neurons(model, [inputs])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "registers needs the tower's register neurons"),
        ({"neurons": ("7",)}, "'7' is no neuron in registers"),
        ({"neurons": ("2.1",)}, "Layer 2 is out of range in registers"),
        ({"neurons": ("0.999",)}, "Neuron 0.999 is out of range in registers"),
        ({"neurons": ("gone.json",)}, "There is no file gone.json"),
        ({"neurons": ("0.1",), "count": 0}, "count is 0 in registers"),
        ({"neurons": ("0.1",), "peak": "all"}, "peak is all in registers: give neuron or layer"),
    ],
)
def test_what_the_tower_has_not_is_refused(fields: dict[str, Any], sentence: str) -> None:
    model, inputs = planted()
    with pytest.raises(InputError, match=sentence), Registers(**fields).on(model):
        model(**inputs)


def test_features_instead_of_pixels_are_refused() -> None:
    model, inputs = planted()
    embeddings = model.get_input_embeddings()(inputs["input_ids"])
    given = {"inputs_embeds": embeddings, "attention_mask": inputs["attention_mask"]}
    layout = sl.layout_of(find_anatomy(model), inputs)
    with (
        pytest.raises(InputError, match="registers has to see the image go through the vision tower"),
        Registers(("0.1",)).on(model, layout=layout),
    ):
        model(**given)


@pytest.mark.filterwarnings("ignore:fastervlm.*this vision tower")
@pytest.mark.parametrize(
    ("family", "spec", "images"),
    [("llava", "visionzip:keep=5,merged=2", 2)]
    + [(family, "fastervlm:r=0.5", images) for family in ("llava", "qwen2_vl", "paligemma") for images in (1, 2)],
)
def test_pruning_by_the_tower_ranks_patches_and_never_a_register(family: str, spec: str, images: int) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left", images), BY_NAME[family].model()
    method, registers = parse_spec(spec), Registers(neurons=("0.1", "0.3"), count=2)
    assert method is not None
    found, counts = [], []
    for methods in ((method,), (method, registers), (registers, method)):
        with ExitStack() as stack:
            for each in methods:
                stack.enter_context(each.on(model))
            probe = stack.enter_context(Dominance().on(model))
            with torch.no_grad():
                found.append(model(**case.inputs).logits)
        counts.append([sample.tokens["image"] for sample in probe.result().samples])
        assert found[-1].shape == found[0].shape
    assert counts[0] == counts[1] == counts[2]
    assert torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[1])
