"""Both passes of a contrast as one batch answer as two, and nothing that is attached can tell them apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME
from methods.plain_decoding import GREEDY, RECORD
from sightline.methods.base import parse_spec
from sightline.methods.second_pass import SecondPass
from sightline.methods.side_by_side import SharedStart, SideBySide, passes_apart
from sightline.models.transformers_api.cache import cache_from
from sightline.probes.dominance import Dominance
from support.cells import method_of
from support.leftovers import state_of

SLIDES, WHOLE = "a cache is of fixed size, slides or keeps a state", None
FAMILIES: dict[str, tuple[str, str | None, bool]] = {
    "llava": ("pai", WHOLE, True),
    "llava_next": ("icd", WHOLE, True),
    "qwen2_5_vl": ("icd", WHOLE, True),
    "qwen3_vl": ("icd", WHOLE, True),
    "qwen3_vl_video": ("m3id", WHOLE, True),
    "internvl": ("m3id", WHOLE, False),
    "idefics3": ("vcd", WHOLE, False),
    "paligemma": ("pai", WHOLE, False),
    "gemma3": ("pai", SLIDES, False),
    "qwen3_5": ("icd", SLIDES, False),
}
"""The method, why its passes are apart, and whether their prompts share a start: not where it sees what follows, as in
PaliGemma, nor where padding differs."""


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The reason for passes apart, and how many positions their prompts shared, of the last `generate`."""
    seen: dict[str, Any] = {}
    joined, count = SecondPass._joined, SharedStart.count

    def note_joined(self: SecondPass, inputs: Any) -> Any:
        both = joined(self, inputs)
        seen["apart"] = both if isinstance(both, str) else None
        return both

    def note_count(self: SharedStart, *given: Any) -> int:
        seen["shared"] = count(self, *given)
        return int(seen["shared"])

    monkeypatch.setattr(SecondPass, "_joined", note_joined)
    monkeypatch.setattr(SharedStart, "count", note_count)
    return seen


def answer(model: Any, inputs: dict[str, Tensor], **more: Any) -> Any:
    with torch.no_grad():
        return model.generate(**inputs, **GREEDY, **RECORD, **more)


def assert_alike(first: Any, second: Any) -> None:
    assert torch.equal(first.sequences, second.sequences)
    for ours, theirs in zip(first.scores, second.scores, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_answers_as_two_passes(family: str, found: dict[str, Any]) -> None:
    name, apart, shares = FAMILIES[family]
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    with method_of(name).on(model):
        together = answer(model, case.inputs)
        assert (found["apart"], bool(found["shared"])) == (apart, shares)
        found.clear()
        with passes_apart():
            separate = answer(model, case.inputs)
        assert found == {"apart": "`passes_apart` is entered"}
    assert_alike(together, separate)


@pytest.mark.parametrize("specs", [("icd:tokens=21+22+23", "vaf"), ("var:dims=3+11,tau=1.3,summ=0,rho=0.9", "pai")])
def test_edits_and_readings_are_of_the_first_rows_alone(specs: tuple[str, str], found: dict[str, Any]) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    methods = [parse_spec(spec) for spec in specs]
    state, results = state_of(model), []
    for is_apart in (False, True):
        with methods[0].on(model), methods[1].on(model), Dominance().on(model) as probe:  # type: ignore[union-attr]
            if is_apart:
                with passes_apart():
                    output = answer(model, case.inputs)
            else:
                output = answer(model, case.inputs)
                assert found["apart"] is None
                assert found["shared"]
        results.append((output, [layer["mdi"] for layer in probe.result().to_dict()["layers"]]))
    assert_alike(results[0][0], results[1][0])
    assert results[0][1] == pytest.approx(results[1][1], abs=1e-4)
    assert state_of(model) == state


def test_the_cache_of_generate_is_its_own_afterwards() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    with method_of("icd").on(model):
        output = answer(model, case.inputs)
        with passes_apart():
            other = answer(model, case.inputs)
    for ours, theirs in zip(cache_from(output).layers, cache_from(other).layers, strict=True):
        assert torch.allclose(ours.keys, theirs.keys, atol=1e-5)
        assert torch.allclose(ours.values, theirs.values, atol=1e-5)


def test_what_looks_at_all_rows_keeps_the_passes_apart(found: dict[str, Any]) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    for other, reason in (("vcd", "something else"), ("dola", "something else"), ("vaf", None)):
        with method_of("icd").on(model), method_of(other).on(model):
            answer(model, case.inputs)
        assert (found["apart"] or "").startswith(reason or "")
    with method_of("icd").on(model):
        answer(model, case.inputs, num_beams=2)
    assert found["apart"] == "beams and several sequences of a prompt change places"


def test_short_memory_keeps_the_passes_apart(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any]) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    together, calls = SideBySide._together, []

    def short(self: SideBySide, *kept: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 4:  # the second layer's values
            raise MemoryError
        return together(self, *kept)

    monkeypatch.setattr(SideBySide, "_together", short)
    with method_of("pai").on(model):
        first = answer(model, case.inputs)
        assert found["apart"] == "memory is short"
        with passes_apart():
            assert_alike(first, answer(model, case.inputs))
