"""OPERA equals a search without a cache that runs every candidate anew; batches, one beam, going back, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, Case
from methods.plain_decoding import NO_END, grown
from sightline.errors import InputError
from sightline.methods.opera import OPERA
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import Modality, layout_of
from support.cells import alone
from support.leftovers import state_of
from support.plain_readings import last_rows

STEPS = 4
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "eos_token_id": NO_END, "pad_token_id": 0}


def answer(method: OPERA, model: Any, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    with torch.no_grad(), method.on(model):
        found: Tensor = model.generate(**inputs, **{**GREEDY, **options})
    return found[:, inputs["input_ids"].shape[1] :]


def plain_search(method: OPERA, model: Any, case: Case) -> list[int]:
    """Beams of whole sequences, one pass over each."""
    layer = find_anatomy(model).attention_layers[-1]
    length = case.inputs["input_ids"].shape[1]
    image = layout_of(find_anatomy(model), case.inputs).modality[0] == int(Modality.IMAGE)

    def run(words: list[int]) -> tuple[Tensor, Tensor]:
        inputs = grown(case.inputs, torch.tensor([words], dtype=torch.long))
        with torch.no_grad():
            logits = model(**inputs, use_cache=False).logits[0, -1].float()
        row = last_rows(model, inputs).weights[layer][0].amax(0)
        return logits.log_softmax(-1), row / row.sum()

    beams: list[tuple[float, list[int], list[Tensor]]] = [(0.0, [], [])]
    for _ in range(STEPS):
        found = []
        for score, words, rows in beams:
            likely = run(words)[0].topk(method.candidates if words else max(method.beams, method.candidates))
            for value, token in zip(likely.values.tolist(), likely.indices.tolist(), strict=True):
                longer = [*rows, run([*words, token])[1]]
                products = []
                for word in range(len(longer)):
                    product = 1.0
                    for row in longer[word:]:
                        product *= method.sigma * float(row[length + word])
                    products.append(product)
                phi = method.scale * max(products)
                phi = -float(longer[-1][:length][image].sum()) if len(longer) <= method.early else phi
                found.append((score + value - method.alpha * phi, [*words, token], longer))
        beams = sorted(found, key=lambda beam: -beam[0])[: method.beams]
    return beams[0][1]


@pytest.mark.parametrize(("family", "beams"), [("llava", 1), ("llava", 3), ("qwen2_5_vl", 2), ("gemma3", 1)])
def test_the_search_is_the_plain_one(family: str, beams: int) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    method = OPERA(beams=beams, candidates=3, alpha=2.0, sigma=3, scale=0.2, early=1)
    model.generate(**case.inputs, **GREEDY)  # the library installs hooks of its own at the first
    state = state_of(model)
    assert answer(method, model, case.inputs)[0].tolist() == plain_search(method, model, case)
    assert state_of(model) == state


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_a_padded_sample_of_a_batch_answers_as_alone(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    method = OPERA(beams=3, candidates=3, alpha=4.0, sigma=3, scale=0.1, early=2)
    both = answer(method, model, case.inputs)
    assert torch.equal(both[:1], answer(method, model, alone(case)))
    assert both.shape == (2, STEPS)


def test_without_a_penalty_it_is_beam_search() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    found = answer(OPERA(beams=3, candidates=6, alpha=0, patience=0), model, case.inputs)
    with torch.no_grad():
        plain = model.generate(**case.inputs, **GREEDY, num_beams=3)
    assert torch.equal(found, plain[:, -STEPS:])


def test_it_goes_back_from_a_word_that_all_lean_on() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    settings: dict[str, Any] = {"beams": 1, "candidates": 2, "alpha": 0.0, "early": 0}
    stays = answer(OPERA(**settings, patience=0), model, case.inputs, max_new_tokens=12)
    back = answer(OPERA(**settings, patience=2, rollbacks=1), model, case.inputs, max_new_tokens=12)
    assert back.shape == stays.shape
    assert not torch.equal(stays, back)
    first = int((stays != back)[0].nonzero()[0, 0])
    assert torch.equal(stays[:, :first], back[:, :first])


def test_an_answer_ends_at_its_end_token() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    method = OPERA(beams=1, candidates=1, alpha=0, patience=0)
    plain = answer(method, model, case.inputs)
    ended = answer(method, model, case.inputs, eos_token_id=int(plain[0, 1]))
    assert ended[0, :2].tolist() == plain[0, :2].tolist()
    assert not ended[0, 2:].any()


@pytest.mark.parametrize(
    "options", [{"do_sample": True}, {"num_return_sequences": 2, "num_beams": 2}, {"use_cache": False}]
)
def test_other_ways_of_decoding_are_refused(options: dict[str, Any]) -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with pytest.raises(InputError, match=r"opera (searches for one answer|is a decoding loop on a cache)"):
        answer(OPERA(), model, case.inputs, **options)


def test_the_penalty_is_the_largest_column_product() -> None:
    rows = torch.tensor([[0.5, 0.0, 0.0], [0.4, 0.1, 0.0], [0.3, 0.2, 0.6]])
    penalty, place = OPERA(sigma=2, scale=1, early=0).penalty(rows)
    assert (round(penalty, 6), place) == (1.2, 2)
    penalty, place = OPERA(sigma=5, scale=1, early=0).penalty(rows)
    assert (round(penalty, 4), place) == (round(2.5 * 2 * 1.5, 4), 0)
    assert OPERA(sigma=5, window=2).penalty(rows)[1] == 2
    assert OPERA(sigma=5, early=2).penalty(rows, image=0.3)[0] == pytest.approx(7.5e-7)
    assert OPERA(sigma=5).penalty(rows, image=0.3) == (-0.3, 0)
