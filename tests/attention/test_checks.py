"""A reading that is wrong is found in a forward pass and two decoding steps, and named in one sentence."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest
import torch

import sightline
from families import BY_NAME, FAMILIES, Family, str_of
from sightline.attention import checks, passes
from sightline.attention.checks import check_model, check_reading
from sightline.errors import ModelError, SightlineWarning
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import layout_of
from sightline.models.transformers_api import release
from sightline.models.vlm import VLM
from support.leftovers import state_of
from support.renaming import Renaming

LLAVA = BY_NAME["llava"]


def twice(family: Family) -> dict[str, Any]:
    """A batch of two equal prompts."""
    return {name: torch.cat([value, value]) for name, value in family.make_inputs().inputs.items()}


def found_in(model: Any) -> list[str]:
    anatomy, inputs = find_anatomy(model), twice(LLAVA)
    return check_reading(anatomy, inputs, layout_of(anatomy, inputs))


@pytest.mark.parametrize("family", FAMILIES, ids=str_of)
def test_every_family_is_read_rightly_and_left_as_it_was(family: Family) -> None:
    model, inputs = family.model(), twice(family)
    anatomy, before = find_anatomy(model), state_of(model)
    passes_run: list[int] = []
    handle = anatomy.decoder.register_forward_pre_hook(lambda *_: passes_run.append(1))
    try:
        assert check_reading(anatomy, inputs, layout_of(anatomy, inputs)) == []
    finally:
        handle.remove()
    assert len(passes_run) == 3, "one forward pass and two decoding steps"
    assert state_of(model)[1:] == before[1:]


@pytest.mark.parametrize("layer", [0, -1])
def test_attention_that_is_not_used_is_found(layer: int) -> None:
    model = LLAVA.build()
    attention: Any = find_anatomy(model).attentions[layer]
    with torch.no_grad():
        attention.o_proj.weight.zero_()
    (sentence,) = found_in(model)
    assert f"attention of layer {find_anatomy(model).attention_layers[layer]} leaves the logits" in sentence


def test_rows_that_sum_to_less_than_one_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checks.EditedCall.row_weights
    monkeypatch.setattr(checks.EditedCall, "row_weights", lambda self, rows: 0.9 * whole(self, rows))
    assert any("sum to 0.9000 instead of 1" in sentence for sentence in found_in(LLAVA.model()))


def test_steps_that_are_not_seen_as_steps_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes.PassTracker, "_cached", lambda *_: 0)
    monkeypatch.setattr(passes.PassTracker, "_require_known", lambda *_: None)
    assert any("not seen as steps" in sentence for sentence in found_in(LLAVA.model()))


def test_positions_that_are_no_image_are_found() -> None:
    anatomy, case = find_anatomy(LLAVA.model()), LLAVA.make_inputs()
    layout = layout_of(anatomy, case.inputs)
    layout.modality[layout.modality == 2] = 1
    found = check_model(anatomy, case.inputs, layout)
    assert any("no image" in sentence for sentence in found)


def test_load_looks_and_refuses_what_is_read_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = sightline.load("tiny-llava")
    assert vlm.check() == []
    monkeypatch.setattr(checks, "_check_grids", lambda _: ["A patch grid of sample 0 holds a position twice."])
    with pytest.raises(ModelError, match=r"read wrongly .* check=False"):
        sightline.load("tiny-llava")
    with pytest.raises(ModelError, match="read wrongly"):
        sightline.wrap(vlm.model, vlm.processor)
    assert isinstance(sightline.load("tiny-llava", check=False), VLM)
    assert isinstance(sightline.wrap(vlm.model, vlm.processor, check=False), VLM)


def test_what_cannot_be_looked_at_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_check_grids", lambda _: 1 / 0)
    with pytest.warns(SightlineWarning, match="could not be looked at .division by zero"):
        sightline.load("tiny-llava")


def test_a_release_that_was_not_tested_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "NEWEST", (5, 0))
    release.warn_of_release.cache_clear()
    try:
        with pytest.warns(SightlineWarning, match="was tested with"):
            sightline.load("tiny-llava")
        with warnings.catch_warnings():
            warnings.simplefilter("error", SightlineWarning)
            sightline.load("tiny-llava")
    finally:
        release.warn_of_release.cache_clear()


def test_a_renamed_cache_is_seen_by_the_check() -> None:
    model = Renaming(LLAVA.model().config).eval()
    with pytest.raises(ModelError, match="cache as 'memory'"):
        found_in(model)


def test_the_look_at_load_is_cheap() -> None:
    vlm = sightline.load("tiny-llava", check=False)
    from sightline.models.vlm.reading import require_right_reading

    spent = []
    for _ in range(5):
        start = time.process_time()
        require_right_reading(vlm)
        spent.append(time.process_time() - start)
    assert min(spent) < 0.2
