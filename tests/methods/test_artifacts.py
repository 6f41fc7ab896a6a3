"""Heads, neurons, directions and sinks: taken as a file, a path or the object; of another model or kind refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.jobs.methods import beside, method_specs
from sightline.knockout.head_maps import head_list
from sightline.knockout.readings import locating_list
from sightline.knockout.result import ImpactMap
from sightline.methods.artifacts import HEADS, FoundNames
from sightline.methods.base import Method, parse_spec
from sightline.methods.directions import Direction
from sightline.models.anatomy import find_anatomy
from sightline.models.weights_digest import weights_digest


@cache
def model() -> Any:
    return BY_NAME["llava"].model()


@cache
def inputs() -> dict[str, Any]:
    given: dict[str, Any] = BY_NAME["llava"].make_inputs(1, None).inputs
    return given


@cache
def heads() -> ImpactMap:
    (found,) = sl.Study(unit="head").run(model(), inputs())
    return found


@cache
def direction(part: Any) -> Direction:
    dark = {**inputs(), "pixel_values": torch.zeros_like(inputs()["pixel_values"])}
    return sl.find_direction(model(), [(inputs(), dark)], part=part)


def act(method: Method, on: Any = None) -> None:
    with torch.no_grad(), method.on(on or model()):
        (on or model())(**inputs())


def test_heads_are_taken_from_names_a_file_a_path_and_what_found_them(tmp_path: Path) -> None:
    document = head_list(heads())
    file = tmp_path / "heads.json"
    file.write_text(json.dumps(document))
    names = tuple(document["heads"])
    for given in (names, "+".join(names), str(file), file, (str(file),), tmp_path, document, heads()):
        assert sl.ADHH(heads=given).heads == names
        act(sl.ADHH(heads=given))
    assert parse_spec(f"adhh:heads={file}") == sl.ADHH(heads=names)
    found = sl.head_effects(model(), inputs())
    assert sl.ADHH(heads=found).heads == found.strongest(1)
    assert (found.weights, document["weights"]) == (weights_digest(find_anatomy(model())),) * 2


def test_heads_of_another_model_are_refused() -> None:
    other = BY_NAME["qwen2_vl"].model()
    for given in (heads(), head_list(heads()), sl.head_effects(model(), inputs())):
        with pytest.raises(InputError, match=r"The heads of adhh were found in .* and not in this model: find this"):
            act(sl.ADHH(heads=given), other)
    act(sl.ADHH(heads=heads(), random=True))
    with pytest.raises(InputError, match="were found in"):
        act(sl.ADHH(heads=heads(), random=True), other)


def test_heads_of_another_name_are_refused_where_their_weights_are_not_known() -> None:
    class Named:
        name = "mine"

    old = HEADS.read({"model": "yours", "heads": ["1.0"]})
    assert isinstance(old, FoundNames)
    with pytest.raises(InputError, match="were found in yours, and the model is mine"):
        HEADS.require_model(old, Named(), find_anatomy(model()))


def test_heads_that_look_at_a_place_are_no_heads_that_make_words_up(tmp_path: Path) -> None:
    (found,) = sl.Study(mode="locate").run(model(), inputs())
    listed = locating_list([found])
    assert listed["weights"] == weights_digest(find_anatomy(model()))
    (tmp_path / "localization.json").write_text(json.dumps(listed))
    for given in (tmp_path / "localization.json", listed, found, sl.localize(model(), inputs())):
        with pytest.raises(InputError, match=r"lists heads that look at one place .* which are none for adhh"):
            sl.ADHH(heads=given)


def test_neurons_are_taken_from_a_path_and_from_what_found_them(tmp_path: Path) -> None:
    found = sl.find_register_neurons(model(), [inputs()], threshold=0.1)
    found.save(tmp_path / "registers.json")
    for given in (found, tmp_path / "registers.json", str(tmp_path / "registers.json"), tmp_path, found.neurons):
        assert sl.Registers(neurons=given).neurons == found.neurons
    act(sl.Registers(neurons=found))
    with pytest.raises(InputError, match=r"The neurons of registers were found in .* and not in this model"):
        act(sl.Registers(neurons=found), BY_NAME["blip2"].model())


def test_a_direction_is_taken_as_it_is_as_a_path_and_by_the_name_in_its_spec(tmp_path: Path) -> None:
    file = tmp_path / "direction.safetensors"
    direction("text").save(file)
    with torch.no_grad():
        plain = model()(**inputs()).logits
        steered = []
        for given in (direction("text"), file, str(file)):
            with sl.Steer(given, 0.5).on(model()):
                steered.append(model()(**inputs()).logits)
    assert not torch.equal(steered[0], plain)
    assert torch.equal(steered[0], steered[1])
    assert torch.equal(steered[1], steered[2])
    method = sl.Steer(direction("text"))
    assert len(method.spec()) < 60
    again = parse_spec(method.spec())
    assert isinstance(again, sl.Steer)
    assert again.direction is direction("text")


def test_the_controls_of_a_direction_in_memory_are_found() -> None:
    class Settings:
        controls, blind, baselines = True, False, False

    specs = beside(method_specs(sl.Steer(direction("text"))), Settings())
    (control,) = [spec.method for spec in specs if getattr(spec.method, "random", False)]
    assert isinstance(control, sl.Steer)
    assert control.direction is direction("text")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: sl.VTI(text=direction("tower")), "of the vision tower, and the field text of vti takes"),
        (lambda: sl.VTI(vision=direction("text")), "of the decoder, and the field vision of vti takes one"),
        (lambda: sl.Steer(heads()), "direction is ImpactMap in steer: give what `find_direction` found"),
        (lambda: sl.VTI(text=3), "text is int in vti"),
        (lambda: sl.Steer(replace(direction("text"), values=torch.zeros(4, 8))), "is zero everywhere: find it"),
        (lambda: sl.Registers(neurons=3), "int is no list of neurons for registers"),
        (lambda: sl.ADHH(heads=sl.find_register_neurons(model(), [inputs()], threshold=0.1)), "no list of heads"),
        (lambda: sl.VAR(dims="gone.json"), "The sinks file gone.json cannot be read"),
    ],
)  # fmt: skip
def test_what_is_of_another_kind_is_one_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        act(make())
