"""Specs as the command line writes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest

from sightline.errors import InputError
from sightline.methods.base import METHODS, Method, parse_spec, register, setting


@pytest.fixture(autouse=True)
def example() -> Iterator[type[Method]]:
    @register
    @dataclass(frozen=True)
    class Example(Method):
        """One field of each kind."""

        name: ClassVar[str] = "example"
        share: float = setting(0.6, "kept share, 0 to 1")
        count: int = setting(3, "how many")
        on_prompt: bool = setting(True, "whether the prompt changes too")
        layers: tuple[int, ...] | None = setting(None, "layers, all by default")
        kind: Literal["soft", "hard"] = setting("soft", "soft or hard")

    yield Example
    METHODS.forget("example")


def test_a_spec_sets_fields() -> None:
    found = parse_spec("example:share=0.25, count=7,on_prompt=false,layers=2+3,kind=hard")
    assert vars(found) == {"share": 0.25, "count": 7, "on_prompt": False, "layers": (2, 3), "kind": "hard"}
    assert parse_spec("example:layers=none") == parse_spec("example")
    assert parse_spec("none") is None


def test_a_spec_is_written_as_it_is_read() -> None:
    for spec in (
        "example",
        "example:count=4",
        "example:layers=1+5,kind=hard",
        "example:on_prompt=False",
        "example:layers=empty",
    ):
        found = parse_spec(spec)
        assert found is not None
        assert found.spec() == spec
        assert parse_spec(found.spec()) == found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("exampel", "no method named 'exampel' .did you mean example..; the methods are none, .*example"),
        ("example:shaer=1", "no field 'shaer' .did you mean share..; its fields are share, count"),
        ("example:share", "no field=value pair; write for example example:share=0.6"),
        (
            "example:count=many",
            "'many' is no value for the field 'count' of the method example; it takes a whole number",
        ),
        ("example:kind=firm", "'firm' is no value for the field 'kind' of the method example; use soft or hard"),
        ("example:layers=1+x", "'x' is no value for the field 'layers'"),
        ("example:count=1,count=2", "'count' is given twice in the method 'example:count=1,count=2'"),
        ("example:on_prompt=maybe", "it takes true or false"),
    ],
)
def test_a_wrong_spec_is_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_spec(spec)
