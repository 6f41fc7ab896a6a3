"""Query rows of one's own choice, several images, and metrics of one's own, against the plain sets and formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.models.layout import Modality, TokenLayout, layout_of
from sightline.probes.dominance import Dominance, SampleDominance, words
from sightline.zoo import shapes_samples

GENERATE: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}


def masses(queries: Any, family: str = "llava", batch: int = 2) -> list[SampleDominance]:
    model, case = BY_NAME[family].model(), BY_NAME[family].make_inputs(batch=batch)
    with torch.no_grad(), Dominance(queries=queries).on(model) as probe:
        model.generate(**case.inputs, **GENERATE)
    return list(probe.result().samples)


def close(one: SampleDominance, other: SampleDominance) -> None:
    assert one.rows == other.rows
    for mine, theirs in zip(one.layers, other.layers, strict=True):
        for group, mass in theirs.masses.items():
            assert mine.masses[group] == pytest.approx(mass, abs=1e-5)


def all_text(layout: TokenLayout, tokens: Tensor) -> Tensor:
    found = torch.zeros(tokens.shape, dtype=torch.bool)
    found[:, : layout.length] = layout.modality == int(Modality.TEXT)
    return found


def whole_answer(layout: TokenLayout, tokens: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1]).expand(tokens.shape) >= layout.prompt_length


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
def test_a_function_that_chooses_the_prompts_text_reads_what_prompt_reads(family: str) -> None:
    for one, other in zip(masses(all_text, family), masses("prompt", family), strict=True):
        close(one, other)
        assert one.queries == "all_text"


def test_a_function_that_chooses_the_answer_reads_all_but_the_row_of_the_unseen_last_token() -> None:
    model, case = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(batch=1)
    with torch.no_grad(), Dominance().on(model) as probe:
        model.generate(**case.inputs, **{**GENERATE, "max_new_tokens": 4, "min_new_tokens": 4})
    close(masses(whole_answer, batch=1)[0], probe.result().samples[0])


def test_positions_are_single_rows_whose_mean_is_theirs_together() -> None:
    single = [masses((place,), batch=1)[0] for place in (-1, -2)]
    both = masses([-1, -2], batch=1)[0]
    assert both.queries == "positions -1, -2"
    for layer, one, other in zip(both.layers, single[0].layers, single[1].layers, strict=True):
        assert layer.masses["image"] == pytest.approx((one.masses["image"] + other.masses["image"]) / 2, abs=1e-6)


def test_words_of_the_answer_are_their_rows() -> None:
    vlm = sl.load("tiny-llava")
    picture = next(iter(shapes_samples(1, seed=3)))["image"]
    inputs = vlm.encode(sl.Sample(image=picture, prompt="What is in the picture?"))
    with sl.Dominance(queries=sl.words("content")).on(vlm) as some, sl.Dominance().on(vlm) as every:
        text = vlm.generate(inputs, max_new_tokens=12)
    assert 0 < some.result().samples[0].rows < every.result().samples[0].rows, text
    with sl.Dominance(queries=words(["nothing such"])).on(vlm) as none:
        vlm.generate(inputs, max_new_tokens=4)
    with pytest.raises(sl.SightlineError, match="chose not one token"):
        none.result()


@pytest.mark.parametrize("wrong", ["everything", [], [1.5], ["a"], 3])
def test_other_queries_are_refused(wrong: Any) -> None:
    with pytest.raises(InputError, match="There is no query set called"):
        Dominance(queries=wrong)


def test_a_position_outside_and_a_function_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError, match="There is no position 999 in a prompt of"):
        masses((999,))
    with pytest.raises(InputError, match="must return a bool tensor of shape"):
        masses(lambda layout, tokens: torch.ones(3))


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_heads_that_are_asked_for_have_their_own_masses_and_mdi(family: str) -> None:
    def of_third(row: Tensor, layout: TokenLayout) -> float:
        return float(row[2][layout.modality[0] == int(Modality.IMAGE)].sum())

    model, case = BY_NAME[family].model(), BY_NAME[family].make_inputs(batch=2)
    for queries in ("generated", "prompt"):
        reading = Dominance(queries=queries, metrics={"of_third": of_third}, heads=True)
        with torch.no_grad(), reading.on(model) as probe:
            model.generate(**case.inputs, **GENERATE)
        for sample in probe.result().samples:
            assert SampleDominance.from_dict(sample.to_dict()) == sample
            for layer in sample.layers:
                assert layer.heads[2]["image"] == pytest.approx(layer.metrics["of_third"], abs=1e-5)
                for group, mass in layer.masses.items():
                    own = [head[group] for head in layer.heads]
                    assert sum(own) / len(own) == pytest.approx(mass, abs=1e-6)
        table = probe.result().to_pandas()
        third = table[table["head"] == 2].iloc[0]
        tokens = probe.result().samples[0].tokens
        expected = (third.text_mass / tokens["text"]) / (third.image_mass / tokens["image"])
        assert third.mdi == pytest.approx(expected)


def test_a_metric_of_ones_own_is_averaged_as_masses_are() -> None:
    def image_share(row: Tensor, layout: TokenLayout) -> float:
        return float(row.mean(0)[layout.modality[0] == int(Modality.IMAGE)].sum())

    model, case = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(batch=2)
    for queries in ("generated", "prompt"):
        with torch.no_grad(), Dominance(queries=queries, metrics={"image_share": image_share}).on(model) as probe:
            model.generate(**case.inputs, **GENERATE)
        result = probe.result()
        for sample in result.samples:
            for layer in sample.layers:
                assert layer.metrics["image_share"] == pytest.approx(layer.masses["image"], abs=1e-5)
            assert SampleDominance.from_dict(sample.to_dict()) == sample
        figures = result.to_dict()["layers"][0]
        assert figures["image_share"] == pytest.approx(figures["image_mass"], abs=1e-5)
        assert figures["image_share_ci95"] is not None


def test_each_of_several_images_has_its_share() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(images=2), family.model()
    layout = layout_of(sl.find_anatomy(model), case.inputs)
    assert {grid.index for grid in layout.grids[0]} == {0, 1}
    with torch.no_grad(), Dominance().on(model) as probe:
        model(**case.inputs)
    (sample,) = probe.result().samples
    for layer in sample.layers:
        parts = [layer.masses[f"image#{image}"] for image in (0, 1)]
        assert sum(parts) == pytest.approx(layer.masses["image"], abs=1e-6)
        one, other = (sample.by_image(layer)[image] for image in (0, 1))
        assert 2 / (1 / one + 1 / other) == pytest.approx(sample.mdi(layer), rel=1e-4)
