"""M3ID and ICD, and the controls of contrastive decoding, equal their plain formulas."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, IMAGE, PADDING, VIDEO, Case
from methods.plain_decoding import GREEDY, RECORD, STEPS, contrasted, last_logits, text_alone
from sightline.errors import InputError
from sightline.methods.icd import ICD
from sightline.methods.m3id import M3ID
from sightline.methods.yes_bias import CutOff, YesBias

FAMILIES = ["llava", "qwen2_5_vl", "gemma3"]
ROLE = (21, 22, 23)


def answered(method: Any, model: Any, case: Case) -> tuple[Any, Tensor]:
    with torch.no_grad(), method.on(model):
        output = model.generate(**case.inputs, **GREEDY, **RECORD)
    return output, output.sequences[:, -STEPS:]


def agree(scores: Tensor, expected: Tensor) -> bool:
    known = scores.isfinite() & expected.isfinite()
    return bool(known.any(-1).all()) and torch.allclose(scores[known].double(), expected[known].double(), atol=3e-4)


@pytest.mark.parametrize("form", ["code", "paper"])
@pytest.mark.parametrize("family", FAMILIES)
def test_m3id_is_its_formula(family: str, form: Any) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    alpha = 0.012  # of some 128 tokens, so that the gate opens in some rows and not in others
    output, tokens = answered(M3ID(lam=0.3, form=form, alpha=alpha), model, case)
    gates = []
    for step in range(STEPS):
        text = torch.cat([last_logits(model, text_alone(case, row), tokens[row : row + 1, :step]) for row in range(2)])
        g = exp(-0.3 * (step if form == "code" else step + 1))
        expected = contrasted(output.logits[step], text, (1 - g) / g, 0.1 if form == "code" else 0)
        if form == "paper":
            p = output.logits[step].double().log_softmax(-1)
            gate = p.max(-1, keepdim=True).values < log(alpha)
            gates += gate.flatten().tolist()
            expected = torch.where(gate, expected, p)
        assert agree(output.scores[step], expected)
    assert form == "code" or gates


def with_role(case: Case, model: Any, sample: int) -> dict[str, Tensor]:
    """One sample without padding and with the role behind its image."""
    kinds = case.modality[sample]
    skip = sum(kind == PADDING for kind in kinds)
    place = max(at for at, kind in enumerate(kinds) if kind in (IMAGE, VIDEO)) + 1
    images = [sum(kind in (IMAGE, VIDEO) for kind in row) for row in case.modality]
    inputs = {}
    for name, value in case.inputs.items():
        if value.shape[:2] == case.inputs["input_ids"].shape:
            new = torch.tensor(ROLE) if name == "input_ids" else torch.full((3,), int(name == "attention_mask"))
            inputs[name] = torch.cat([value[sample, skip:place], new.to(value), value[sample, place:]])[None]
        elif len(value) == len(kinds) or len(value) == 2:
            inputs[name] = value[sample : sample + 1]
        else:
            start, end = (len(value) * sum(images[:at]) // sum(images) for at in (sample, sample + 1))
            inputs[name] = value[start:end]
    return inputs


@pytest.mark.parametrize("family", FAMILIES)
def test_icd_is_its_formula(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    output, tokens = answered(ICD(alpha=0.7, tokens=ROLE), model, case)
    for step in range(STEPS):
        rows = [last_logits(model, with_role(case, model, row), tokens[row : row + 1, :step]) for row in range(2)]
        assert agree(output.scores[step], contrasted(output.logits[step], torch.cat(rows), 0.7, 0.1))


def test_icd_and_yes_bias_need_a_tokenizer_or_tokens() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with ICD().on(model), pytest.raises(InputError, match="icd needs a tokenizer for its role"):
        model.generate(**case.inputs, **GREEDY)
    with pytest.raises(InputError, match="yes_bias needs a tokenizer"), YesBias(yes=(3,)).on(model):
        pass


def test_yes_bias_tilts_where_the_model_is_in_two_minds() -> None:
    yes, no = torch.tensor([3, 4]), torch.tensor([5])
    p = torch.full((4, 8), 1e-6)
    p[0, 3], p[0, 4], p[0, 5] = 0.10, 0.15, 0.45  # torn: 0.25 against 0.45
    p[1, 3], p[1, 5] = 0.1, 0.8  # sure of no
    p[2, 3], p[2, 5], p[2, 7] = 0.05, 0.1, 0.85  # neither
    p[3, 4], p[3, 5] = 0.3, 0.35  # torn
    found = YesBias().tilt(p.log(), yes, no)
    assert found.argmax(-1).tolist() == [4, 5, 7, 4]
    assert torch.equal(found[1:3], p.log()[1:3])
    assert found[0].isfinite().sum() == 1
    assert torch.equal(YesBias(margin=0).tilt(p.log(), yes, no), p.log())


def test_the_cut_off_alone_leaves_greedy_answers() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    output, tokens = answered(CutOff(beta=0.9), model, case)
    with torch.no_grad():
        plain = model.generate(**case.inputs, **GREEDY)
    assert torch.equal(tokens, plain[:, -STEPS:])
    p = output.logits[0].softmax(-1)
    assert torch.equal(output.scores[0].isfinite(), p >= 0.9 * p.amax(-1, keepdim=True))
