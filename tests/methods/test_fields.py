"""What a field of a method is given: a number, a list, and nothing else in silence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.methods.base import METHODS
from sightline.methods.numbers import check_numbers
from sightline.methods.pruning import PruningMethod


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_refuses_words_and_what_is_no_number_where_a_number_is_wanted(name: str) -> None:
    kind = METHODS[name]
    check_numbers(kind())
    for field, hint in kind.__annotations__.items():
        if hint not in ("float", "int"):
            continue
        for value in ("half", math.nan, None, [1]):
            with pytest.raises(InputError, match=rf"^{field} is .* in {name}: give a (whole )?number"):
                kind(**{field: value})


@pytest.mark.parametrize("keep", [0.5, "0.5", ["a"]])
def test_a_list_of_numbers_is_no_number(keep: Any) -> None:
    with pytest.raises(InputError, match="in pyramiddrop: give a list, each a number"):
        sl.PyramidDrop(keep=keep)


def test_what_probes_and_methods_of_others_hold_beside_numbers_is_no_matter() -> None:
    @dataclass(frozen=True)
    class Own(sl.Method):
        name: ClassVar[str] = "own"
        other: NotThere | None = None  # type: ignore[name-defined]
        r: float = 0.5

    Own(other=3)
    with pytest.raises(InputError, match="r is 'a' in own: give a number"):
        Own(r="a")  # type: ignore[arg-type]
    sl.Dominance()


def test_a_rule_of_ones_own_that_picks_what_is_not_there_is_one_sentence() -> None:
    @dataclass(frozen=True)
    class Beyond(PruningMethod):
        name: ClassVar[str] = "beyond"

        def pick(self, image: Any, text: Any, count: int) -> Any:
            return torch.tensor([len(image)])

    family = BY_NAME["llava"]
    with pytest.raises(InputError, match="pick gives places from 0 to"), Beyond(keep=2).on(family.model()):
        family.model()(**family.make_inputs(1, None).inputs)


@pytest.mark.parametrize("part", ["text", "tower"])
def test_pairs_that_do_not_differ_have_no_direction(part: Any) -> None:
    family = BY_NAME["llava"]
    inputs = family.make_inputs(1, None).inputs
    with pytest.raises(InputError, match="do not differ on average"):
        sl.find_direction(family.model(), [(inputs, dict(inputs))], part=part)


def test_what_is_no_pair_is_one_sentence() -> None:
    with pytest.raises(InputError, match="where a pair is wanted"):
        sl.find_direction(BY_NAME["llava"].model(), [({}, {}, {})])  # type: ignore[list-item]
