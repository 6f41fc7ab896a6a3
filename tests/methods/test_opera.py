"""OPERA equals the public code's answers, and a search without a cache; batches, one beam, going back, refusals."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, Case
from methods.opera_words import Arithmetic, logits_behind
from methods.plain_decoding import NO_END, grown
from sightline.errors import InputError
from sightline.methods.opera import OPERA
from sightline.methods.opera_search import OperaSearch, WordEnds
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import Modality, layout_of
from support.cells import alone
from support.leftovers import state_of
from support.plain_readings import last_rows

STEPS = 4
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "eos_token_id": NO_END, "pad_token_id": 0}


def answer(method: OPERA, model: Any, inputs: dict[str, Tensor], **options: Any) -> Tensor:
    with torch.no_grad(), method.on(model):
        # A pass over the whole sequence would take a generated word for an image's.
        options = {**GREEDY, "suppress_tokens": [model.config.image_token_id], **options}
        found: Tensor = model.generate(**inputs, **options)
    return found[:, inputs["input_ids"].shape[1] :]


def plain_search(method: OPERA, model: Any, case: Case) -> list[int]:
    """Beams of whole sequences, one pass over each, that never go back."""
    layer = find_anatomy(model).attention_layers[-1]
    length = case.inputs["input_ids"].shape[1]
    image = layout_of(find_anatomy(model), case.inputs).modality[0] == int(Modality.IMAGE)

    def run(words: list[int]) -> tuple[Tensor, Tensor]:
        inputs = grown(case.inputs, torch.tensor([words], dtype=torch.long))
        with torch.no_grad():
            logits = model(**inputs, use_cache=False).logits[0, -1].float()
        logits[model.config.image_token_id] = -torch.inf
        row = last_rows(model, inputs).weights[layer][0].amax(0)
        return logits.log_softmax(-1), row / row.sum()

    beams: list[tuple[float, list[int], list[Tensor]]] = [(0.0, [], [])]
    for _ in range(STEPS):
        found = []
        for score, words, rows in beams:
            likely = run(words)[0].topk(method.candidates)
            tried = []
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
                tried.append((value - method.alpha * phi, [*words, token], longer))
            whole = math.log(sum(math.exp(value) for value, _, _ in tried))
            found += [(score + value - whole, longer, table) for value, longer, table in tried]
        beams = sorted(found, key=lambda beam: -beam[0])[: method.beams]
    return beams[0][1]


class Anew:
    """Reads words by a pass over the whole sequence."""

    def __init__(self, model: Any, case: Case) -> None:
        anatomy = find_anatomy(model)
        self._model, self._case, self._layer = model, case, anatomy.attention_layers[-1]
        self._image = layout_of(anatomy, case.inputs).modality[0] == int(Modality.IMAGE)
        self.prompt = case.inputs["input_ids"][0]

    def restart(self, beams: int) -> None: ...

    def keep(self, beams: Tensor) -> None: ...

    def logits(self, words: list[int]) -> Tensor:
        inputs = grown(self._case.inputs, torch.tensor([words], dtype=torch.long))
        with torch.no_grad():
            found: Tensor = self._model(**inputs, use_cache=False).logits[:, -1].float()
        found[:, self._model.config.image_token_id] = -torch.inf
        return found

    def run(self, words: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given = [grown(self._case.inputs, one[None]) for one in words]
        rows = torch.stack([last_rows(self._model, inputs).weights[self._layer][0].amax(0) for inputs in given])
        rows = rows / rows.sum(-1, keepdim=True)
        own = len(self.prompt)
        logits = torch.cat([self.logits(one) for one in words.tolist()])
        return logits, rows[:, own:], rows[:, :own][:, self._image].sum(-1)


def searched(method: OPERA, reader: Any, first: Tensor, words: int, end: int = NO_END) -> list[int]:
    """A search's answer with a reader of its own."""
    longest = len(reader.prompt) + words

    def over(ids: Tensor, _: None) -> Tensor:
        return torch.tensor([len(row) >= longest or int(row[-1]) == end for row in ids])

    found: list[int] = (
        OperaSearch(method, reader, first, lambda _, scores: scores, WordEnds(over, 1.0, False)).answer().tolist()
    )
    return found


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


@pytest.mark.parametrize("end", [NO_END, 69])
def test_without_a_penalty_and_with_all_words_as_candidates_it_is_beam_search(end: int) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    words = model.config.get_text_config().vocab_size
    found = answer(OPERA(beams=3, candidates=words, alpha=0, patience=0), model, case.inputs, eos_token_id=end)
    with torch.no_grad():
        plain = model.generate(**case.inputs, **{**GREEDY, "eos_token_id": end}, num_beams=3)
    plain = plain[:, case.inputs["input_ids"].shape[1] :]
    assert torch.equal(found, plain)
    assert end == NO_END or bool((plain == end).any())


def test_it_goes_back_on_a_cache_as_without_one() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    method = OPERA(beams=2, candidates=1, early=1, patience=2, rollbacks=1)
    back = answer(method, model, case.inputs, max_new_tokens=7)[0].tolist()
    assert back != answer(replace(method, patience=0), model, case.inputs, max_new_tokens=7)[0].tolist()
    reader = Anew(model, case)
    assert back == searched(method, reader, reader.logits([]), 7)


GONE_BACK = "23 21 18 14 16 0 17 28 2 0 0 0 27 4 28 11 2 2 13 5 7 26 3 21 7 7 19 1 0 0 28 22"
ENDED = "2 5 14 8 26 17 2 2 19 2 10 5 6 12"


@pytest.mark.parametrize(("alpha", "words", "end", "expected"), [(1.0, 32, NO_END, GONE_BACK), (3e3, 45, 12, ENDED)])
def test_words_of_arithmetic_are_answered_as_the_public_code_answers_them(
    alpha: float, words: int, end: int, expected: str
) -> None:
    # shikiw/OPERA at 61426ef: opera_beam_search as it stands (five beams, five candidates, 50, 15), run on the same
    # logits and attention rows.
    found = searched(OPERA(alpha=alpha), Arithmetic(), logits_behind(()), words, end)
    assert " ".join(map(str, found)) == expected


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
    products = torch.tensor([[1.0, 0.5, 0.7], [0.1, 0.2, 0.2]])
    image = torch.tensor([0.3, 0.4])
    phi, place = OPERA(scale=2, early=2).penalty(products, image)
    assert phi.tolist() == pytest.approx([2.0, 0.4])
    assert place.tolist() == [0, 1]
    assert OPERA(window=2).penalty(products, image)[1].tolist() == [2, 1]
    assert OPERA(early=3).penalty(products, image)[0].tolist() == pytest.approx([-0.3, -0.4])


def test_stopping_early_by_another_rule_is_refused() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with pytest.raises(InputError, match="early_stopping is 'never' in opera: give True or False"):
        answer(OPERA(), model, case.inputs, early_stopping="never")
