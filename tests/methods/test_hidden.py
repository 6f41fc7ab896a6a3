"""DeCo, DoLa and VISTA equal their plain formulas on whole hidden states, without a cache, for every token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, Case
from methods.plain_decoding import GREEDY, RECORD, STEPS, grown, text_alone
from sightline.errors import InputError, ModelError
from sightline.methods.base import Method
from sightline.methods.deco import DeCo
from sightline.methods.dola import DoLa
from sightline.methods.vista import VISTA
from sightline.models.anatomy import find_anatomy
from support.plain_readings import read_out, states

FAMILIES = ["llava", "qwen2_5_vl", "gemma3"]
SETTINGS = [(1, None), (2, "left")]


def deco(model: Any, logits: Tensor, hidden: list[Tensor]) -> Tensor:
    """With mass 0.5, at most 4 candidates, alpha 0.6, layers 1 to 3, written out a row at a time."""
    rows = []
    for row, mine in enumerate(logits):
        p = mine.softmax(-1)
        order = p.argsort(descending=True).tolist()
        chosen: list[int] = []
        while len(chosen) < 4 and (not chosen or p[chosen].sum() < 0.5):
            chosen.append(order[len(chosen)])
        early = [read_out(model, hidden[k][row]) for k in (1, 2, 3)]
        sure, best = max((float(each.softmax(-1)[chosen].max()), index) for index, each in enumerate(early))
        scores = torch.full_like(mine, -torch.inf)
        scores[chosen] = mine[chosen] + 0.6 * sure * early[best][chosen]
        rows.append(scores)
    return torch.stack(rows)


def dola(model: Any, logits: Tensor, hidden: list[Tensor]) -> Tensor:
    """Layers 1, 2 and 3, beta 0.1, on probabilities: no norm, and the divergence as its code takes it."""
    rows = []
    for row, mine in enumerate(logits):
        p = mine.double().softmax(-1)
        found = []
        for k in (1, 2, 3):
            q = read_out(model, hidden[k][row], False).double().softmax(-1)
            m = (p + q) / 2
            found.append((float((m * (m / p).log()).sum() + (m * (m / q).log()).sum()) / 2, q))
        q = max(found, key=lambda pair: pair[0])[1]
        scores = p.log() - q.log()
        scores[p < 0.1 * p.max()] = -torch.inf
        rows.append(scores.float())
    return torch.stack(rows)


def early(model: Any, logits: Tensor, hidden: list[Tensor]) -> Tensor:
    """VISTA's logits of layers 2 and 3, gamma 0.4."""
    return 0.4 * (read_out(model, hidden[2], False) + read_out(model, hidden[3], False)) / 2 + 0.6 * logits


METHODS: dict[str, tuple[Method, Any]] = {
    "deco": (DeCo(alpha=0.6, first_layer=1, last_layer=3, mass=0.5, keep=4), deco),
    "dola": (DoLa(layers=(1, 2, 3)), dola),
    "vista": (VISTA(lam=0, gamma=0.4, first_layer=2, last_layer=3), early),
}


def agree(scores: Tensor, expected: Tensor) -> bool:
    known = scores.isfinite()
    return torch.equal(known, expected.isfinite()) and torch.allclose(scores[known], expected[known], atol=3e-4)


@pytest.mark.parametrize(("batch", "padding"), SETTINGS)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_the_plain_formula(family: str, name: str, batch: int, padding: str | None) -> None:
    case, model = BY_NAME[family].make_inputs(batch, padding), BY_NAME[family].model()
    method, formula = METHODS[name]
    with torch.no_grad(), method.on(model):
        output = model.generate(**case.inputs, **GREEDY, **RECORD)
    tokens = output.sequences[:, -STEPS:]
    for step in range(STEPS):
        logits, hidden = states(model, grown(case.inputs, tokens[:, :step]))
        assert agree(output.scores[step], formula(model, logits, hidden))


def directions(model: Any, case: Case) -> Tensor:
    """[batch, layers, hidden], of length 1: what the image adds at the end of the prompt."""
    whole = states(model, case.inputs)[1]
    added = []
    for sample in range(len(case.modality)):
        text = states(model, text_alone(case, sample))[1]
        added.append(torch.stack([whole[k][sample] - text[k][0] for k in range(1, len(text))]))
    return torch.nn.functional.normalize(torch.stack(added), dim=-1)


@contextmanager
def steering(model: Any, found: Tensor, lam: float) -> Iterator[None]:
    def turn(layer: int) -> Any:
        def hook(module: Any, args: Any, x: Tensor) -> Tensor:
            new = torch.empty_like(x)
            for sample in range(len(x)):
                for place in range(x.shape[1]):
                    one, v = x[sample, place], found[sample, layer]
                    y = lam * (1 + max(0.0, float(torch.dot(one, -v) / one.norm()))) * v
                    turned = one / one.norm() + y
                    new[sample, place] = one.norm() * turned / turned.norm()
            return new

        return hook

    handles = [layer.mlp.register_forward_hook(turn(n)) for n, layer in enumerate(find_anatomy(model).layers)]
    yield
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_vista_steers_as_one_would_by_hand(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    # The library's last hidden state is behind the norm, so that the last layer's direction is found by a hook.
    found = directions(model, case)
    last: list[Tensor] = []
    handle = (
        find_anatomy(model)
        .layers[-1]
        .register_forward_hook(
            lambda module, args, output: last.append((output if isinstance(output, Tensor) else output[0])[:, -1])
        )
    )
    with torch.no_grad():
        model(**case.inputs)
        for sample in range(2):
            model(**text_alone(case, sample))
    handle.remove()
    found[:, -1] = torch.nn.functional.normalize(last[0] - torch.cat(last[1:]), dim=-1)
    with torch.no_grad(), VISTA(lam=0.3, gamma=0).on(model):
        output = model.generate(**case.inputs, **GREEDY, **RECORD)
    tokens = output.sequences[:, -STEPS:]
    for step in range(STEPS):
        with steering(model, found, 0.3):
            logits, _ = states(model, grown(case.inputs, tokens[:, :step]))
        assert torch.allclose(output.scores[step], logits, atol=3e-4)


def test_steering_at_random_is_as_strong_and_elsewhere() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()

    def logits(method: Method) -> Tensor:
        with torch.no_grad(), method.on(model):
            return model(**case.inputs).logits[:, -1]

    steered, drawn = logits(VISTA(gamma=0)), logits(VISTA(gamma=0, random=True))
    plain = logits(VISTA(lam=0, gamma=0))
    assert not torch.equal(steered, drawn)
    assert not torch.equal(plain, drawn)
    assert torch.equal(drawn, logits(VISTA(gamma=0, random=True)))


def test_what_the_unembedding_does_not_explain_is_refused() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()

    def cool(module: Any, args: Any, output: Any) -> Any:
        output.logits = output.logits / 3
        return output

    handle = model.register_forward_hook(cool)
    try:
        with torch.no_grad(), DoLa().on(model), pytest.raises(ModelError, match="logits are not head"):
            model.generate(**case.inputs, **GREEDY)
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (DeCo(first_layer=7), "Layer 7 is out of range in deco: states stand behind layers 0 .* to 4"),
        (DeCo(first_layer=3, last_layer=2), "The layers of deco end at 2, before they begin at 3"),
        (DoLa(layers=(4,)), "Layer 4 in dola is the last"),
        (VISTA(first_layer=9), "Layer 9 is out of range in vista"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(method: Method, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence), method.on(BY_NAME["llava"].model()):
        pass


def test_assisted_or_piecewise_prompts_are_refused() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with (
        torch.no_grad(),
        DoLa().on(model),
        pytest.raises(InputError, match="dola needs the whole prompt in one pass: leave prefill_chunk_size out"),
    ):
        model.generate(**case.inputs, **GREEDY, prefill_chunk_size=4)
