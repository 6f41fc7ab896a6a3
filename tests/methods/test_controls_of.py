"""Every method's controls are methods that can be named, and stand beside it in an evaluation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import sightline as sl
from sightline.jobs.evaluation_plan import EvaluateSettings
from sightline.jobs.methods import beside, method_specs, with_controls
from sightline.methods.base import METHODS, parse_spec
from sightline.methods.controls_of import _RULES, controls_of

NEEDED = {"var": "var:dims=3+11", "steer": "steer:direction=a.safetensors", "vti": "vti:text=a.safetensors"}


@pytest.mark.parametrize("name", sorted(_RULES))
def test_controls_are_specs_of_other_settings(name: str) -> None:
    method = parse_spec(NEEDED.get(name, name))
    assert method is not None
    controls = controls_of(method)
    assert controls
    for spec in controls:
        found = parse_spec(spec)
        assert found is not None
        assert found != method
        assert found.spec() == spec or parse_spec(found.spec()) == found


@pytest.mark.parametrize("name", sorted(_RULES))
def test_a_methods_page_names_its_controls(name: str) -> None:
    method = parse_spec(NEEDED.get(name, name))
    page = (Path(__file__).parents[2] / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8").lower()
    words = page.replace("`", "").replace(" = ", "=")
    assert method is not None
    for spec in controls_of(method):
        control = parse_spec(spec)
        assert control is not None
        if control.name != name:
            assert control.name in words
            continue
        for field in dataclasses.fields(control):
            value = getattr(control, field.name)
            if value != getattr(method, field.name):
                assert any(
                    f"{field.name}={each}".lower() in words for each in (value, f"{value:g}" if value == 0 else value)
                )


def test_controls_share_the_settings_of_their_method() -> None:
    assert controls_of(sl.VCD(beta=0.3)) == ("cut_off:beta=0.3", "yes_bias")
    assert controls_of(sl.VCD(beta=0)) == controls_of(sl.M3ID(form="paper")) == ("yes_bias",)
    assert controls_of(sl.DoLa(beta=0)) == ()
    assert controls_of(sl.PAI(floor=0)) == ("pai:floor=0,target=text", "yes_bias")
    assert controls_of(sl.PAI(alpha=0.4, gamma=1)) == ("pai:alpha=0.4,gamma=1,target=text",)
    assert controls_of(sl.DivPrune(keep=12)) == ("prune_random:keep=12",)
    assert controls_of(sl.VISTA(lam=0.2, random=True, gamma=0)) == ()
    assert controls_of(sl.FastV(R=0.7)) == ("fastv_random:R=0.7",)


def test_an_evaluation_adds_each_once() -> None:
    specs = with_controls(method_specs(["none", sl.VCD(), "icd", "yes_bias"]))
    assert [spec.label for spec in specs] == ["none", "vcd", "icd", "yes_bias", "cut_off:beta=0.1", "prompt tilt"]


def test_the_model_as_it_is_is_a_control_too() -> None:
    specs = beside(method_specs([sl.VCD()]), EvaluateSettings(controls=True))
    assert [spec.label for spec in specs] == ["none", "vcd", "cut_off:beta=0.1", "yes_bias", "prompt tilt"]


def test_methods_without_a_rule_are_controls_or_read_nothing() -> None:
    without = set(METHODS.homes) - set(_RULES)
    assert without == {
        "cut_off", "fastervlm_random", "fastv_random", "grounding", "mask_random", "mask_sinks", "prune_random",
        "repeat", "var_random", "yes_bias",
    }  # fmt: skip
