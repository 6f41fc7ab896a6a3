"""One call, several ways in: a loaded model, a bare one, an answer; and settings that would do nothing are refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError, ModelError
from sightline.knockout import ImpactMap, Study

SAMPLE = sl.Sample(image=Image.effect_noise((48, 48), 60).convert("RGB"), prompt="is there a red circle in the image ?")


@cache
def tiny() -> Any:
    return sl.load("tiny-llava", device="cpu")


def test_the_package_is_called_like_its_function() -> None:
    found = sl.impact(tiny(), SAMPLE, mode="local", unit="modality", layers=[0, 3])
    assert isinstance(found, ImpactMap)
    assert found.layers == (0, 3)
    assert [source.text for source in found.tokens] == ["all text", "all image"]
    bare = sl.impact(tiny().model, tiny().encode(SAMPLE), mode="local", unit="modality", layers=[0, 3])
    assert bare.maps["l2"] == pytest.approx(found.maps["l2"])
    assert found.baseline["text"] in ("yes", "no")


def test_over_an_answer_each_token_has_the_map_of_its_row() -> None:
    study = Study(unit="modality", layers=(2,), new_tokens=3)
    found = study.run(tiny(), sl.Sample(image=SAMPLE.images[0], prompt="Describe the image."))
    inputs = tiny().encode(sl.Sample(image=SAMPLE.images[0], prompt="Describe the image."))
    (tokens,) = tiny().generate_tokens(inputs, 3)
    assert [each.baseline["token"] for each in found] == tokens[: len(found)]
    first = sl.impact(tiny().model, inputs, unit="modality", layers=[2])
    assert found[0].maps["logit"] == pytest.approx(first.maps["logit"], abs=1e-4)
    assert [each.row for each in found] == [found[0].row + step for step in range(len(found))]
    assert len({each.tokens for each in found}) == 1, "the same sources throughout"


def test_all_rows_are_a_mean_over_those_that_see_the_source() -> None:
    family = BY_NAME["llava"]
    model, inputs = family.model(), family.make_inputs().inputs
    every = sl.impact(model, inputs, mode="local", row="all", positions=[12])
    length = inputs["input_ids"].shape[1]
    single = [sl.impact(model, inputs, mode="local", row=row, positions=[12]).maps["l2"] for row in range(12, length)]
    assert every.maps["l2"] == pytest.approx(np.nanmean(single, axis=0), rel=1e-4)
    assert every.row == "all"


def test_the_reference_tells_the_row_from_all_rows() -> None:
    (found,) = Study(unit="modality", layers=(0,), reference=True).run(tiny(), SAMPLE)
    (image,) = (source for source in found.tokens if source.modality == "image")
    for scope in ("row", "every-row"):
        plain = sl.impact(tiny(), SAMPLE, positions=[image.positions], layers=[3], window=99, scope=scope)  # type: ignore[arg-type]
        assert found.reference[scope]["logit"] == pytest.approx(float(plain.maps["logit"][0, 0]), abs=1e-3)


def test_controls_stand_apart() -> None:
    found = sl.impact(tiny(), SAMPLE, positions=[(3, 4, 9, 10)], control=4, layers=[0], seed=5)
    assert found.maps["kl"].shape == (1, 1)
    assert found.control_maps["kl"].shape == (1, 4)
    assert found.settings["seed"] == 5
    control = found.controls[0]
    again = sl.impact(tiny(), SAMPLE, positions=[control.positions], layers=[0])
    assert again.maps["logit"][0, 0] == pytest.approx(found.control_maps["logit"][0, 0], abs=1e-5)
    assert "seed" not in again.settings


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"mode": "sideways"}, "no mode called 'sideways'; use local, causal, vision, tower, deepstack, patch"),
        ({"scope": "column"}, "no scope called 'column'"),
        ({"window": 0}, "The window is 0"),
        ({"control": -1}, "The control is -1"),
        ({"new_tokens": 0}, "number of new tokens is 0"),
        ({"layers": ()}, "no layers to look at"),
        ({"window": 1.5}, "The window is 1.5: give a whole number"),
        ({"control": "a"}, "The control is 'a': give a whole number"),
        ({"layers": ("a",)}, "The entry of layers is 'a': give a whole number"),
        ({"row": "all"}, "reads one row"),
        ({"new_tokens": 2, "row": 5}, "leave the row out"),
        ({"per_head": True}, "The mode causal has no setting per_head, which is of the mode local"),
        ({"mode": "local", "window": 9}, "has no setting window, which is of the modes causal and tower"),
        ({"mode": "tower", "tokens": "text"}, "has no setting tokens, which is of the modes local, causal, patch"),
        ({"mode": "vision", "layers": (1,)}, "has no setting layers"),
        ({"among": "none"}, "no pool of controls called 'none'"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Study(**fields)


def test_one_sentence_each() -> None:
    family = BY_NAME["llava"]
    with pytest.raises(InputError, match="the inputs have 2"):
        sl.impact(family.model(), family.make_inputs(batch=2).inputs)
    with pytest.raises(InputError, match="cannot encode a Sample"):
        sl.impact(family.model(), SAMPLE)
    with pytest.raises(ModelError):
        sl.impact(object(), {})
    with pytest.raises(InputError, match="'yes' needs a tokenizer"):
        sl.impact(family.model(), family.make_inputs().inputs, target="yes", layers=[0], unit="modality")
    with pytest.raises(InputError, match="7"):
        sl.impact(family.model(), family.make_inputs().inputs, layers=[77], unit="modality")


@pytest.mark.parametrize(
    ("sample", "fields", "sentence"),
    [
        (None, {}, "is of type NoneType: give"),
        ([3], {}, "is of type int is no sample: give"),
        (SAMPLE, {"layers": 3}, "The layers are 3: give a list"),
        (SAMPLE, {"positions": 5}, "The positions are 5: give a list"),
        (SAMPLE, {"positions": [1.5]}, "1.5"),
    ],
)
def test_wrong_types_are_one_sentence(sample: Any, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        sl.impact(tiny(), sample, **fields)
