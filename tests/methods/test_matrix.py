"""Every registered method on every promised family: padding, decoding, sampling, beams; what is refused, what is left.

One cell is one test. Laws that need no second implementation hold it: a padded sample of a batch answers as it does
alone; the method changes scores; after all of it, an exception among it, the model's state and its scores are bit for
bit what they were. Every second cell, so that each method and each family stands in several, decodes by beams too: the
padded sample answers as it does alone; the others sample: copies from the likeliest token alone are the greedy answer.
That each method is its formula is proven elsewhere here, on fewer families.
"""

from __future__ import annotations

import os
from functools import cache
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from families import AUDIO, BY_NAME, FAMILIES, TEXT
from releases.differences import COPIES_TEST, difference
from sightline.errors import SightlineError
from sightline.models.transformers_api.release import RELEASE
from support.cells import BEAMS, CELLS, COPIES, NAMES, alone, method_of, refusal, run
from support.leftovers import state_of

pytestmark = pytest.mark.filterwarnings("ignore:(fastervlm|visionzip).*this vision tower")


@cache
def plain(family: str) -> tuple[Any, list[Any]]:
    """The untouched answer, and the model's state after it: the library installs hooks of its own at the first pass."""
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    output = run(model, case.inputs)
    return output, state_of(model)


PICTURED = [family.name for family in FAMILIES if family.modality not in (TEXT, AUDIO)]


@pytest.mark.parametrize("family", PICTURED)
def test_copies_by_the_untouched_model_are_its_answer(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    copies = run(model, case.inputs, **COPIES).sequences
    assert torch.equal(copies, plain(family)[0].sequences.repeat_interleave(2, 0))


def has_true_copies(family: str) -> bool:
    """Whether this release of Transformers gives each beam and copy the images of its own prompt."""
    return difference(f"{COPIES_TEST}[{family}]", RELEASE) is None


def fail(batch: int, ids: Tensor) -> list[int]:
    raise ZeroDivisionError


def decodes_by_beams(name: str, family: str) -> bool:
    """As on a chessboard of methods and families."""
    number = [each.name for each in FAMILIES].index(family)
    return (NAMES.index(name) + number) % 2 == 0


REFUSALS = [cell for cell in CELLS if refusal(*cell)]


@pytest.mark.parametrize(("name", "family"), REFUSALS)
def test_what_does_not_fit_is_refused_in_a_sentence_and_leaves_nothing(name: str, family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    before, state = plain(family)
    with pytest.raises(SightlineError) as caught, method_of(name).on(model):
        run(model, case.inputs)
    assert str(refusal(name, family)) in str(caught.value)
    assert str(caught.value).count(". ") == 0
    assert state_of(model) == state
    assert torch.equal(run(model, case.inputs).sequences, before.sequences)


@pytest.mark.parametrize(("name", "family"), [cell for cell in CELLS if cell not in REFUSALS])
def test_cell(name: str, family: str) -> None:
    case, model, method = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model(), method_of(name)
    before, state = plain(family)
    with method.on(model):
        both, one = run(model, case.inputs), run(model, alone(case))
        for ours, single in zip(both.scores, one.scores, strict=True):
            assert torch.allclose(ours[:1], single, atol=2e-4), float((ours[:1] - single).abs().max())
        way = BEAMS if decodes_by_beams(name, family) else COPIES
        if not has_true_copies(family):
            way = {}
        elif way is BEAMS:
            own = run(model, alone(case), **BEAMS)
            assert torch.equal(run(model, case.inputs, **BEAMS).sequences[:2, -3:], own.sequences[:, -3:])
        else:
            assert torch.equal(run(model, case.inputs, **COPIES).sequences, both.sequences.repeat_interleave(2, 0))
        with pytest.raises(ZeroDivisionError):
            run(model, case.inputs, **way, prefix_allowed_tokens_fn=fail)
    assert not all(torch.equal(a, b) for a, b in zip(both.scores, before.scores, strict=True))
    assert state_of(model) == state
    after = run(model, case.inputs)
    assert torch.equal(after.sequences, before.sequences)
    assert all(torch.equal(a, b) for a, b in zip(after.scores, before.scores, strict=True))


EVERY_PAIR = "SIGHTLINE_TEST_ALL" in os.environ
PAIRS = list(combinations(NAMES, 2)) if EVERY_PAIR else [(one, NAMES[at - 7]) for at, one in enumerate(NAMES) if at % 2]
"""Without SIGHTLINE_TEST_ALL, every method in one pair."""
UNLIKE = ("can't act together", "can't tell which of the", "needs a projector that is handed the patches")
UNLIKELY = {
    "fastv", "fastervlm", "fastv_random", "fastervlm_random", "pyramiddrop", "sparsevlm", "visionzip",
}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_padded_sample_answers_under_two_methods_as_it_does_alone(first: str, second: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    _, state = plain("llava")
    try:
        with method_of(first).on(model), method_of(second).on(model):
            both, one = run(model, case.inputs), run(model, alone(case))
    except SightlineError as error:
        assert any(words in str(error) for words in UNLIKE)  # noqa: PT017
        assert {first, second} & UNLIKELY
    else:
        for ours, single in zip(both.scores, one.scores, strict=True):
            assert torch.allclose(ours[:1], single, atol=2e-4)
    assert state_of(model) == state


@pytest.mark.parametrize("name", ["pai", "vaf"])
def test_scores_that_a_mask_hid_stay_hidden_whoever_comes_first(name: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    found = []
    for first, second in ((name, "mask_sinks"), ("mask_sinks", name)):
        with method_of(first).on(model), method_of(second).on(model):
            found.append(run(model, alone(case)).scores)
    for ours, theirs in zip(*found, strict=True):
        assert ours.isfinite().any()
        assert torch.allclose(ours, theirs, atol=2e-4)


UNCACHED = [name for name in NAMES if name not in ("pai", "vcd", "m3id", "icd", "avisc", "sid", "memvr")]
"""These run second passes of their own, and refuse several sequences without a cache."""


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl", "gemma3"])
@pytest.mark.parametrize("name", UNCACHED)
def test_beams_without_a_cache_answer_as_with_one(name: str, family: str) -> None:
    if refusal(name, family):
        pytest.skip("refused on this family")
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    with method_of(name).on(model):
        with_cache, without = (run(model, case.inputs, **BEAMS, use_cache=kept).sequences for kept in (True, False))
    assert torch.equal(with_cache, without)
