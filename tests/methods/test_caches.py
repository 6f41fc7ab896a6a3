"""Fixed and sliding caches, prompts in pieces, compiled decoding: the answer is the same, or a sentence says why."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from families import BY_NAME
from releases.differences import PIECES_TEST, difference
from sightline.errors import SightlineError
from sightline.models.transformers_api.cache import cache_name
from sightline.models.transformers_api.release import RELEASE
from sightline.probes.dominance import Dominance
from sightline.probes.grounding.scores import Grounding
from support.cells import NAMES, method_of, refusal, run

WAYS: dict[str, dict[str, Any]] = {
    "static": {"cache_implementation": "static", "disable_compile": True},
    "pieces": {"prefill_chunk_size": 7},
}
WORDS = {"static": "static", "pieces": "prefill_chunk_size"}
"""What a refusal names."""
FOUR = {"max_new_tokens": 4}


def test_pieces_by_the_untouched_model_are_its_answer() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    whole, pieces = (run(model, case.inputs, **FOUR, **more).sequences for more in ({}, WAYS["pieces"]))
    assert torch.equal(whole, pieces)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_method_answers_as_with_a_growing_cache_or_says_why_not(name: str, way: str) -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    assert refusal(name, "llava") is None
    with method_of(name).on(model):
        before = run(model, case.inputs, **FOUR)
        other, refused = None, ""
        try:
            other = run(model, case.inputs, **FOUR, **WAYS[way])
        except SightlineError as error:
            refused = str(error)
    if other is None:
        assert WORDS[way] in refused
        assert ". " not in refused
        return
    if way == "pieces" and difference(PIECES_TEST, RELEASE) is not None:
        return
    assert torch.equal(other.sequences, before.sequences)
    for ours, theirs in zip(other.scores, before.scores, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)


SLIDING = [name for name in ("vaf", "var", "pai", "spin", "eah", "icd", "vcd", "deco") if not refusal(name, "gemma3")]


@pytest.mark.parametrize("name", SLIDING)
def test_a_cache_that_drops_what_slides_away_answers_as_one_that_keeps_all(name: str) -> None:
    case, model = BY_NAME["gemma3"].make_inputs(2, "left"), BY_NAME["gemma3"].model()
    found = []
    for kept in ({}, {cache_name(model): DynamicCache()}):
        with method_of(name).on(model), Dominance().on(model) as probe, Grounding().on(model) as grounding:
            output = run(model, case.inputs, **FOUR, **kept)
        found.append((output, probe.result().to_dict()["layers"], grounding.result()))
    (slid, layers, words), (whole, all_layers, all_words) = found
    assert torch.equal(slid.sequences, whole.sequences)
    for ours, theirs in zip(slid.scores, whole.scores, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)
    assert [layer["mdi"] for layer in layers] == pytest.approx([layer["mdi"] for layer in all_layers], abs=1e-4)
    scores, all_scores = ([word.score for word in rows[0] if word.score is not None] for rows in (words, all_words))
    assert scores == pytest.approx(all_scores, abs=1e-4)


@pytest.mark.skipif("SIGHTLINE_TEST_ALL" not in os.environ, reason="compiling takes ten seconds")
@pytest.mark.filterwarnings("ignore:Dynamo does not know")
@pytest.mark.parametrize("name", ["vaf", "var", "pai", "vcd", "deco"])
def test_a_compiled_model_answers_under_a_method_as_a_plain_one(name: str) -> None:
    family = BY_NAME["llava"]
    case, model, compiled = family.make_inputs(), family.model(), family.model()
    compiled.load_state_dict(model.state_dict())
    compiled.compile(backend="eager")
    with method_of(name).on(model), Dominance().on(model) as probe, Grounding().on(model) as grounding:
        before = run(model, case.inputs)
    with method_of(name).on(compiled), Dominance().on(compiled) as other, Grounding().on(compiled) as others:
        after = run(compiled, case.inputs)
    assert torch.equal(after.sequences, before.sequences)
    for ours, theirs in zip(after.scores, before.scores, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-4)
    assert other.result().to_dict()["layers"][0]["mdi"] == pytest.approx(probe.result().to_dict()["layers"][0]["mdi"])
    assert others.result()[0][0].score == pytest.approx(grounding.result()[0][0].score, abs=1e-4)
