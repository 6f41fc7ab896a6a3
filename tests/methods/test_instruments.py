"""Inside a method's `with` an instrument either reads what the method does, or says that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline as sl
from families import BY_NAME
from sightline.attention import EditedCall, ForwardPass, attach
from sightline.errors import InputError
from sightline.knockout.maps import local_maps
from sightline.knockout.patch import pair_of
from sightline.methods.base import parse_spec
from sightline.methods.directions import find_direction
from sightline.models.anatomy import find_anatomy
from sightline.models.entered import entered_methods

SOURCE = Path(sl.__file__).parent

INSTRUMENTS: dict[str, Callable[[Any, Any], Any]] = {
    "impact": lambda model, inputs: sl.impact(model, inputs, mode="local"),
    "impact of heads": lambda model, inputs: sl.impact(model, inputs, unit="head"),
    "impact of tower": lambda model, inputs: sl.impact(model, inputs, mode="tower"),
    "impact of maps": lambda model, inputs: local_maps(model, inputs, None, [(1,)]),
    "patching": lambda model, inputs: pair_of(find_anatomy(model), inputs, inputs, "predicted"),
    "relevance": lambda model, inputs: sl.relevance(model, inputs, "rollout"),
    "image_lens": lambda model, inputs: sl.image_lens(model, inputs, [7]),
    "head_effects": lambda model, inputs: sl.head_effects(model, inputs, exact=False),
    "find_register_neurons": lambda model, inputs: sl.find_register_neurons(model, [inputs]),
    "find_direction": lambda model, inputs: find_direction(model, [(inputs, inputs)], kind="mean"),
}


def given() -> tuple[Any, dict[str, Any]]:
    return BY_NAME["llava"].model(), dict(BY_NAME["llava"].make_inputs(1, None).inputs)


def method_of(spec: str) -> Any:
    method = parse_spec(spec)
    assert method is not None
    return method


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_what_runs_passes_of_its_own_names_itself_and_the_methods_that_it_would_pass_over(instrument: str) -> None:
    model, inputs = given()
    name = instrument.partition(" ")[0]
    with (
        method_of("divprune:keep=2").on(model),
        method_of("vcd").on(model),
        pytest.raises(InputError, match=f"^{name} runs passes of its own .* divprune and vcd do not act: leave the"),
    ):
        INSTRUMENTS[instrument](model, inputs)


@pytest.mark.parametrize(
    "spec", ["opera", "spin", "fastv", "yes_bias:yes=7,no=8", "registers:neurons=0.1", "vista", "repeat:n=2", "dola"]
)
def test_every_kind_of_method_is_known_while_it_is_entered_and_forgotten_afterwards(spec: str) -> None:
    model, inputs = given()
    # A reader that was there before has the hooks that the method then uses.
    with attach(find_anatomy(model), reader=_Reads()), method_of(spec).on(model):
        assert entered_methods(id(model)) == (spec.partition(":")[0],)
        with pytest.raises(InputError, match="does not act"):
            sl.relevance(model, inputs, "rollout")
    assert not entered_methods(id(model))


class _Reads:
    def begin(self, step: ForwardPass) -> None: ...

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None: ...

    def end(self, step: ForwardPass) -> None: ...


@pytest.mark.parametrize("spec", ["divprune:keep=1", "spin:alpha=1", "vcd:alpha=0", "fastv:R=0", "grounding"])
def test_a_method_that_changes_nothing_refuses_nothing(spec: str) -> None:
    model, inputs = given()
    plain = sl.relevance(model, inputs, "rollout").values
    with method_of(spec).on(model):
        torch.testing.assert_close(sl.relevance(model, inputs, "rollout").values, plain)


def test_inside_bypassed_the_plain_model_is_read() -> None:
    model, inputs = given()
    plain = sl.relevance(model, inputs, "rollout").values
    with method_of("spin:r=0.1,alpha=0").on(model), sl.bypassed(model):
        torch.testing.assert_close(sl.relevance(model, inputs, "rollout").values, plain)


def test_no_instrument_leaves_methods_out_without_asking() -> None:
    files = [*(SOURCE / "knockout").rglob("*.py"), *(SOURCE / "probes").rglob("*.py")]
    files.append(SOURCE / "methods" / "directions.py")
    for path in files:
        called = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "bypassed" not in called, f"{path.name}: use `alone`, which refuses methods"


def test_where_no_head_looks_at_the_image_none_is_located() -> None:
    model, inputs = given()
    with method_of("spin:r=0,alpha=0,first_layer=0").on(model):
        found = sl.localize(model, inputs, first_layer=0)
    assert all(0 <= head.entropy < float("inf") and head.mass > 0 for head in found.heads)


def test_the_page_of_methods_names_every_refusing_instrument() -> None:
    page = (SOURCE.parents[1] / "docs" / "methods" / "index.md").read_text(encoding="utf-8")
    for instrument in INSTRUMENTS:
        assert re.search(rf"\b{instrument.partition(' ')[0]}\b", page)


def test_a_tower_takes_the_registers_of_one_method() -> None:
    model, inputs = given()
    registers = method_of("registers:neurons=0.1")
    with registers.on(model):
        with pytest.raises(InputError, match="already: enter one, with the neurons of both"), registers.on(model):
            pass
        model(**inputs)
