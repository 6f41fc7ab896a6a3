"""Repeating non-text tokens: the longer prompt is the one that would have been written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import AUDIO, BY_NAME, IMAGE, PADDING, Case
from sightline.errors import InputError, ModelError
from sightline.methods.base import parse_spec
from sightline.probes.dominance import Dominance
from sightline.published import Repeat
from support.leftovers import state_of

OPTIONS: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": 999, "pad_token_id": 0}


def run(model: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
    kept = {"output_scores": True, "return_dict_in_generate": True}
    with torch.no_grad():
        return model.generate(**inputs, **OPTIONS, **kept, **options)


def written_out(case: Case, times: int) -> dict[str, Tensor]:
    """The first sample with each run of media tokens written so often, and as many media."""
    row = [
        (int(token), kind)
        for token, kind in zip(case.inputs["input_ids"][0], case.modality[0], strict=True)
        if kind != PADDING
    ]
    ids: list[int] = []
    start = 0
    while start < len(row):
        end = start
        while end < len(row) and (row[end][1] in (IMAGE, AUDIO)) == (row[start][1] in (IMAGE, AUDIO)):
            end += 1
        ids += [token for token, _ in row[start:end]] * (times if row[start][1] in (IMAGE, AUDIO) else 1)
        start = end
    media = {
        name: value[:1].repeat(times, *[1] * (value.dim() - 1))
        for name, value in case.inputs.items()
        if name in ("pixel_values", "input_features", "feature_attention_mask")
    }
    written = torch.tensor([ids])
    return {"input_ids": written, "attention_mask": torch.ones_like(written), **media}


@pytest.mark.parametrize("family", ["llava", "qwen2_audio"])
@pytest.mark.parametrize("padding", [None, "left"])
def test_it_equals_media_given_so_often(family: str, padding: str | None) -> None:
    model, case = BY_NAME[family].model(), BY_NAME[family].make_inputs(2, padding)
    by_hand = run(model, written_out(case, 3))
    before, state = run(model, case.inputs), state_of(model)
    with Repeat(3).on(model), Dominance().on(model) as probe:
        ours = run(model, case.inputs)
    for a, b in zip(ours.scores, by_hand.scores, strict=True):
        assert torch.allclose(a[:1], b, atol=1e-4)
    assert not torch.allclose(ours.scores[0], before.scores[0], atol=1e-3)
    kind = "image" if family == "llava" else "audio"
    for sample, kinds in zip(probe.result().samples, case.modality, strict=True):
        assert sample.tokens[kind] == 3 * sum(one in (IMAGE, AUDIO) for one in kinds)
    assert state_of(model) == state
    assert torch.equal(run(model, case.inputs).scores[0], before.scores[0])


def test_beams_and_a_plain_forward() -> None:
    model, case = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(1)
    more = {"num_beams": 2}
    by_hand = run(model, written_out(case, 2), **more)
    with Repeat(2).on(model), torch.no_grad():
        ours = run(model, case.inputs, **more)
        logits = model(**case.inputs).logits
    assert torch.equal(ours.sequences[:, -3:], by_hand.sequences[:, -3:])
    assert logits.shape[1] == written_out(case, 2)["input_ids"].shape[1]


def test_once_changes_no_bit() -> None:
    model, case = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(1)
    before = run(model, case.inputs)
    with Repeat(1).on(model):
        assert torch.equal(run(model, case.inputs).scores[0], before.scores[0])


def test_several_images_are_repeated_each_where_it_stands() -> None:
    model, case = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs(1, images=2)
    with Repeat(2).on(model), Dominance(queries="prompt").on(model) as probe, torch.no_grad():
        model(**case.inputs)
    (sample,) = probe.result().samples
    assert sample.tokens["image"] == 2 * sum(kind == IMAGE for kind in case.modality[0])


@pytest.mark.parametrize(
    ("family", "kind", "words"),
    [
        ("llama", InputError, "this prompt has none"),
        ("qwen2_vl", ModelError, "positions tell rows and columns"),
        ("gemma3", ModelError, "masks are made ahead"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(family: str, kind: type[Exception], words: str) -> None:
    model, case = BY_NAME[family].model(), BY_NAME[family].make_inputs(1)
    before, state = run(model, case.inputs), state_of(model)
    with pytest.raises(kind, match=words), Repeat(2).on(model):
        run(model, case.inputs)
    assert state_of(model) == state
    assert torch.equal(run(model, case.inputs).scores[0], before.scores[0])


def test_the_spec() -> None:
    assert parse_spec("repeat:n=10") == Repeat(10)
    assert parse_spec("repeat") == Repeat(5)
    with pytest.raises(InputError, match="give 1 or more"):
        parse_spec("repeat:n=0")
