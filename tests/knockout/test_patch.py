"""Patching with a minimal pair equals restoring by hand, its estimate the slope; readings are maps of the same form."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.jobs.impact_files import lists_of
from sightline.knockout.patch import pair_of, patch_effects
from sightline.models.anatomy import find_anatomy
from sightline.pages.impact_figures import heat_map
from sightline.pages.page_maps import impact_maps
from sightline.pages.tables.impact import sections
from sightline.results.plain import plain_text
from sightline.zoo.questions import existence
from sightline.zoo.render import render
from sightline.zoo.world import draw_scenes
from support.leftovers import state_of


@cache
def tiny() -> Any:
    return sl.load("tiny-llava", device="cpu")


@cache
def scenes() -> tuple[sl.Sample, Any]:
    """A question that the first picture is answered yes to, and a picture without the thing."""
    first, *others = draw_scenes(20, 31)
    kind = first.kinds[0]
    other = next(scene for scene in others if kind not in scene.kinds)
    return sl.Sample(image=render(first), prompt=existence(first, kind).prompt), render(other)


def pair_inputs(family: str) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    other = {**case.inputs, "pixel_values": case.inputs["pixel_values"].flip(-1) * 3 + 1}
    return model, dict(case.inputs), other


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3"])
def test_restoring_is_what_one_would_do_by_hand(family: str) -> None:
    model, one, other = pair_inputs(family)
    anatomy = find_anatomy(model)
    kept: list[Tensor] = []
    handle = anatomy.layers[1].register_forward_hook(
        lambda module, args, output: kept.append(output if isinstance(output, Tensor) else output[0])
    )
    with torch.no_grad():
        model(**one)
    handle.remove()
    state = state_of(model)
    pair = pair_of(anatomy, one, other, target=17)
    groups = [(1, 2), (len(one["input_ids"][0]) - 1,)]
    found = patch_effects(anatomy, pair, groups, [1], "layer")
    for number, group in enumerate(groups):

        def restore(module: Any, args: Any, output: Any, group: Any = group) -> Any:
            hidden = (output if isinstance(output, Tensor) else output[0]).clone()
            hidden[0, list(group)] = kept[0][0, list(group)]
            return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

        handle = anatomy.layers[1].register_forward_hook(restore)
        with torch.no_grad():
            logits = model(**other).logits[0, -1]
        handle.remove()
        margin = float(logits[pair.word] - logits[pair.against])
        assert float(found["recovered"][0, number]) == pytest.approx((margin - pair.start) / pair.span, abs=2e-3)
    assert state_of(model) == state


def test_all_of_a_layer_brings_all_of_the_answer_back() -> None:
    model, one, other = pair_inputs("llava")
    anatomy = find_anatomy(model)
    pair = pair_of(anatomy, one, other, "predicted" if one is None else 17)
    every = tuple(range(one["input_ids"].shape[1]))
    last = len(anatomy.layers) - 1
    found = patch_effects(anatomy, pair, [every, every[-1:]], [0, last])["recovered"]
    assert found[:, 0] == pytest.approx(torch.ones(2, dtype=torch.float64), abs=1e-4)
    assert float(found[1, 1]) == pytest.approx(1.0, abs=1e-4), "the last layer's last position is the answer"
    parts = [patch_effects(anatomy, pair, [every], [0, last], part)["recovered"] for part in ("attention", "mlp")]
    assert not torch.allclose(*parts)


def test_the_estimate_is_the_slope_of_a_small_step() -> None:
    model, one, _ = pair_inputs("llava")
    anatomy = find_anatomy(model)
    # A pair that hardly differs: what is restored is then a small step, and the slope says all of it.
    other = {**one, "pixel_values": one["pixel_values"] * 1.05}
    pair = pair_of(anatomy, one, other, target=17)
    groups = [(place,) for place in range(one["input_ids"].shape[1])]
    found = patch_effects(anatomy, pair, groups, [0, 1])
    assert torch.allclose(found["recovered"], found["recovered_gradient"], atol=0.05)


def test_effects_are_those_of_public_code() -> None:
    """`trace_with_patch` of wrudman/NOTICE at a77c329 on tiny-llava, and of TransformerLens' demo at 4cd36aa the
    product of corrupted gradients and clean less corrupted states."""
    sample, other = scenes()
    one, two = (tiny().encode(sl.Sample(image=each, prompt=sample.prompt)) for each in (sample.images[0], other))
    anatomy = find_anatomy(tiny().model)
    pair = pair_of(anatomy, one, two, "predicted")
    found = patch_effects(anatomy, pair, [(20,), (49,)], [1, 3, 6])
    exact, estimate = found["recovered"], found["recovered_gradient"]
    assert [float(exact[0, 0]), float(exact[1, 1]), float(exact[2, 1])] == pytest.approx(
        [-0.0076575, 0.1338609, 0.9835866], abs=2e-5
    )
    assert estimate[:, 1].tolist() == pytest.approx([-0.0003134, 0.0657378, 0.4971682], abs=2e-5)
    assert estimate[:, 0].tolist() == pytest.approx([-0.00032446, -0.00002919, -0.00003667], abs=2e-6)


def test_the_raw_lens_is_that_of_public_code() -> None:
    """`retrieve_logit_lens_llava` and `internal_confidence` of nickjiang2378/vl-interp at 5cd5a3c on tiny-llava."""
    inputs = tiny().encode(scenes()[0])
    raw = sl.image_lens(tiny(), inputs, ["circle", "square", "red"], raw=True)
    assert raw.confidence.shape == (9, 36, 3)
    assert raw.internal().tolist() == pytest.approx([0.4058202, 0.0345581, 0.6419840], abs=1e-5)
    assert raw.confidence.sum((0, 1)).tolist() == pytest.approx([1.4909, 0.4522, 3.1461], abs=1e-3)


def test_a_pair_of_pictures_from_the_command_line_to_the_report(tmp_path: Path) -> None:
    sample, other = scenes()
    other.save(tmp_path / "scene2.png")
    found = sl.impact(tiny(), sample, mode="patch", other=tmp_path / "scene2.png", unit="modality", layers=[0, 7])
    assert found.baseline["text"].strip() == "yes"
    assert found.baseline["against_text"].strip() == "no"
    names = [source.modality for source in found.tokens]
    (last,) = (dict(zip(names, row, strict=True)) for row in found.maps["recovered"][1:])
    assert last["image"] == pytest.approx(0.0, abs=1e-6), "no row reads the picture behind the last layer"
    assert last["text"] == pytest.approx(1.0, abs=1e-6), "the row that answers is among the text"
    told = plain_text(sections(found.to_dict()))
    assert "answered yes, the other" in told.replace("'", "")
    assert "agree in rank over" in told
    assert heat_map(found).axes[0].get_xlabel() == "restored"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "The mode patch needs a pair"),
        ({"other_prompt": "what is this ?"}, "positions have no partners"),
        ({"other_prompt": "SAME"}, "answered alike"),
        ({"other_prompt": "a", "control": 2}, "has no setting control"),
        ({"other_prompt": "a", "part": "head"}, "no part called 'head'"),
    ],
)
def test_what_is_no_pair_is_refused(fields: dict[str, Any], sentence: str) -> None:
    sample, _ = scenes()
    fields = {name: sample.prompt if value == "SAME" else value for name, value in fields.items()}
    with pytest.raises(InputError, match=sentence):
        sl.impact(tiny(), sample, mode="patch", **fields)


@pytest.mark.parametrize("mode", ["relevancy", "rollout", "gradient", "lens", "locate"])
def test_readings_are_maps_that_the_report_shows(mode: Any) -> None:
    sample, _ = scenes()
    word = {} if mode in ("rollout", "locate") else {"target": "circle"}
    found = sl.impact(tiny(), sample, mode=mode, tokens="image", **word)
    inputs = tiny().encode(sample)
    (values,) = found.maps.values()
    assert values.shape == (1 if mode == "locate" else 8, 36)
    if mode == "lens":
        lens = sl.image_lens(tiny(), inputs, ["circle"])
        assert values == pytest.approx(lens.confidence[..., 0].double().numpy())
    elif mode == "locate":
        assert values.reshape(6, 6) == pytest.approx(sl.localize(tiny(), inputs).map().double().numpy())
        assert len(found.baseline["heads"]) == 3
        listed = lists_of([found, found])["localization"]
        assert (listed["heads"], listed["votes"]) == (found.baseline["heads"], [2, 2, 2])
    else:
        token = found.settings.get("target", "predicted")
        plain = sl.relevance(tiny(), inputs, mode, target=token)
        assert values == pytest.approx(plain.values[:, plain.image].double().numpy())
    assert impact_maps([found])["boxes"], "the picture is under it"
    assert heat_map(found).axes[0].get_xlabel() == "looked at"
    with pytest.raises(InputError, match="has no setting control"):
        sl.impact(tiny(), sample, mode=mode, control=2)
