"""PAI's and VCD's second pass equals a plain one without a cache, whatever the batch, padding and decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, Case
from methods.plain_decoding import GREEDY, RECORD, STEPS, contrasted, last_logits, text_alone
from sightline.errors import InputError
from sightline.methods.base import Method
from sightline.methods.divprune import DivPrune
from sightline.methods.pai import PAI
from sightline.methods.vcd import VCD, add_noise
from sightline.probes.dominance import Dominance
from support.leftovers import state_of

NAMES = ["llava", "llava_next", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "paligemma", "idefics3", "internvl"]
SETTINGS = [(1, None, 1), (2, "left", 2)]
METHODS: dict[str, Method] = {"pai": PAI(alpha=0, gamma=1.5), "vcd": VCD(alpha=0.7)}


def noised(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    grid = inputs.get("image_grid_thw")  # of families that pack the patches of all images
    rows = None if grid is None else grid.prod(-1).tolist()
    return {name: add_noise(of, 500, lengths=rows) if "pixel_values" in name else of for name, of in inputs.items()}


def second_logits(name: str, model: Any, case: Case, tokens: Tensor) -> Tensor:
    """What the second pass should say, a sample at a time for PAI."""
    if name == "vcd":
        return last_logits(model, noised(case.inputs), tokens)
    rows = [last_logits(model, text_alone(case, row), tokens[row : row + 1]) for row in range(len(tokens))]
    return torch.cat(rows)


WEIGHTS = {"pai": 0.5, "vcd": 0.7}


@pytest.mark.parametrize(("batch", "padding", "images"), SETTINGS)
@pytest.mark.parametrize("name", ["pai", "vcd"])
@pytest.mark.parametrize("family", NAMES)
def test_scores_equal_two_plain_passes(family: str, name: str, batch: int, padding: str | None, images: int) -> None:
    case, model = BY_NAME[family].make_inputs(batch, padding, images), BY_NAME[family].model()
    with torch.no_grad(), METHODS[name].on(model):
        output = model.generate(**case.inputs, **GREEDY, **RECORD)
    tokens = output.sequences[:, -STEPS:]
    for step in range(STEPS):
        first = output.logits[step]
        second = second_logits(name, model, case, tokens[:, :step])
        expected = contrasted(first, second, WEIGHTS[name], 0.1)
        scores = output.scores[step].double()
        known = scores.isfinite() & expected.isfinite()
        assert known.any(-1).all()
        assert torch.allclose(scores[known], expected[known], atol=2e-4), (scores - expected)[known].abs().max()
        assert torch.equal(scores.argmax(-1), tokens[:, step])


class PlainProcessor:
    """The same contrast as a processor without a cache: each row's second prompt is run anew at every step."""

    def __init__(self, name: str, model: Any, case: Case) -> None:
        self.name, self.model, self.case = name, model, case

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        length = self.case.inputs["input_ids"].shape[1]
        copies = len(input_ids) // len(self.case.modality)
        rows = []
        for row, tokens in enumerate(input_ids[:, length:]):
            sample = row // copies
            inputs = {name: value[sample : sample + 1] for name, value in self.case.inputs.items()}
            if self.name == "pai":
                rows.append(last_logits(self.model, text_alone(self.case, sample), tokens[None]))
            else:
                every = add_noise(self.case.inputs["pixel_values"], 500)
                inputs["pixel_values"] = every[sample : sample + 1]
                rows.append(last_logits(self.model, inputs, tokens[None]))
        return contrasted(scores, torch.cat(rows), WEIGHTS[self.name], 0.1).float()


WAYS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3},
    "beams returned": {"num_beams": 3, "num_return_sequences": 2},
    "samples": {"do_sample": True, "num_return_sequences": 2},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["pai", "vcd"])
def test_beams_and_samples_equal_a_plain_processor(name: str, way: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    options = {**GREEDY, "max_new_tokens": 5, **WAYS[way]}
    torch.manual_seed(3)
    plain = model.generate(**case.inputs, **options, logits_processor=[PlainProcessor(name, model, case)])
    torch.manual_seed(3)
    with METHODS[name].on(model):
        ours = model.generate(**case.inputs, **options)
    torch.manual_seed(3)
    assert torch.equal(ours, plain)
    assert not torch.equal(ours, model.generate(**case.inputs, **options))


@pytest.mark.parametrize("method", [PAI(alpha=0, gamma=1), VCD(alpha=0)], ids=["pai", "vcd"])
def test_without_weight_nothing_changes(method: Method) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    plain = model.generate(**case.inputs, **GREEDY, **RECORD)
    with method.on(model):
        ours = model.generate(**case.inputs, **GREEDY, **RECORD)
    assert all(torch.equal(a, b) for a, b in zip(plain.scores, ours.scores, strict=True))


def attributes_of(model: Any) -> list[Any]:
    """What the model object itself holds, the buffers of hooks aside."""
    return [{n: v for n, v in vars(part).items() if "hooks" not in n and n[0] != "_"} for part in model.modules()]


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
@pytest.mark.parametrize("name", ["pai", "vcd"])
def test_nothing_is_left_after_an_exception_either(family: str, name: str) -> None:
    case, model = BY_NAME[family].make_inputs(), BY_NAME[family].model()
    plain = model.generate(**case.inputs, **GREEDY)
    state, held = state_of(model), str(attributes_of(model))

    def fail(input_ids: Tensor, scores: Tensor) -> Tensor:
        raise ZeroDivisionError

    with METHODS[name].on(model):
        model.generate(**case.inputs, **GREEDY)
        with pytest.raises(ZeroDivisionError):
            model.generate(**case.inputs, **GREEDY, logits_processor=[fail])
    assert state_of(model) == state
    assert str(attributes_of(model)) == held
    assert "generate" not in vars(model)
    assert torch.equal(model.generate(**case.inputs, **GREEDY), plain)


@pytest.mark.parametrize("name", ["pai", "vcd"])
def test_one_forward_pass_a_token_of_whose_rows_a_probe_sees_the_first(name: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(), BY_NAME["llava"].model()
    passes: list[int] = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    with METHODS[name].on(model), Dominance().on(model) as probe:
        tokens = model.generate(**case.inputs, **GREEDY)
    handle.remove()
    assert len(passes) == STEPS + 1
    (sample,) = probe.result().samples
    assert sample.rows == STEPS
    forced = {**case.inputs, "input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    with torch.no_grad(), Dominance(queries="all").on(model) as other:
        model(**{name: value[:, :-STEPS] if value.shape == tokens.shape else value for name, value in forced.items()})
    assert other.result().samples[0].tokens == sample.tokens


def test_both_compose_in_the_order_of_entry() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    with METHODS["pai"].on(model), METHODS["vcd"].on(model), Dominance().on(model) as probe:
        output = model.generate(**case.inputs, **GREEDY, **RECORD)
    tokens = output.sequences[:, -STEPS:]
    for step in range(STEPS):
        text, noise = (second_logits(name, model, case, tokens[:, :step]) for name in ("pai", "vcd"))
        expected = contrasted(contrasted(output.logits[step], text, 0.5, 0.1), noise, 0.7, 0.1)
        known = expected.isfinite() & output.scores[step].isfinite()
        assert torch.allclose(output.scores[step].double()[known], expected[known], atol=2e-4)
    assert [sample.rows for sample in probe.result().samples] == [STEPS, STEPS]


@pytest.mark.parametrize(("batch", "padding"), [(1, None), (2, "left")])
def test_a_second_pass_sees_the_whole_prompt_where_the_first_is_pruned(batch: int, padding: str | None) -> None:
    case, model = BY_NAME["llava"].make_inputs(batch, padding), BY_NAME["llava"].model()
    with torch.no_grad(), DivPrune(keep=0.4).on(model), METHODS["vcd"].on(model):
        output = model.generate(**case.inputs, **GREEDY, **RECORD, suppress_tokens=[120])
    tokens = output.sequences[:, -STEPS:]
    for step in range(STEPS):
        noise = second_logits("vcd", model, case, tokens[:, :step])
        expected = contrasted(output.logits[step], noise, 0.7, 0.1)
        known = expected.isfinite() & output.scores[step].isfinite()
        assert torch.allclose(output.scores[step].double()[known], expected[known], atol=2e-4)


def test_noise_follows_the_schedule() -> None:
    pixels = torch.ones(1, 3, 64, 64)
    kept = 1.0
    for step in range(501):
        kept *= 1 - (1e-5 + (5e-3 - 1e-5) / (1 + 2.718281828459045 ** -(-6 + 12 * step / 999)))
    noised = add_noise(pixels, 500)
    assert abs(float(noised.mean()) - kept**0.5) < 0.02
    assert abs(float(noised.var()) - (1 - kept)) < 0.02
    assert torch.equal(noised, add_noise(pixels, 500))
    assert not torch.equal(noised, add_noise(pixels, 500, seed=1))
    stack = torch.zeros(1, 2, 3, 8, 8)
    stack[:, 0] = 1
    assert not add_noise(stack, 500)[:, 1].any()


def test_an_image_has_the_same_noise_in_any_batch() -> None:
    batch = torch.rand(3, 3, 8, 8)
    assert torch.equal(add_noise(batch, 500)[2:], add_noise(batch[2:], 500))
    packed = torch.rand(10, 12)
    assert torch.equal(add_noise(packed, 500, lengths=[4, 6])[4:], add_noise(packed[4:], 500))


def test_noise_leaves_the_generator_of_sampling_alone() -> None:
    state = torch.random.get_rng_state()
    add_noise(torch.ones(3, 4), 10)
    assert torch.equal(torch.random.get_rng_state(), state)


def refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert words in str(caught.value)
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize("name", ["pai", "vcd"])
def test_what_is_refused(name: str) -> None:
    model, case = BY_NAME["llava"].model(), BY_NAME["llava"].make_inputs()
    words = text_alone(case, 0)
    with METHODS[name].on(model):
        refused(lambda: model.generate(**words, **GREEDY), "this prompt has none")
        refused(lambda: model.generate(**case.inputs, **GREEDY, prefill_chunk_size=8), "prefill_chunk_size")
        refused(lambda: model.generate(**case.inputs, **GREEDY, cache_implementation="static"), "static")
        for way in ({"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}):
            options = {**GREEDY, "use_cache": False, "suppress_tokens": [120], **way}
            refused(lambda options=options: model.generate(**case.inputs, **options), "use_cache=False")
    assert model.generate(**case.inputs, **GREEDY) is not None


def test_fields_out_of_range() -> None:
    model = BY_NAME["llava"].model()
    refused(lambda: PAI(alpha=-1), "alpha")
    refused(lambda: PAI(gamma=0.5), "gamma")
    refused(lambda: VCD(step=1000), "step")
    refused(lambda: VCD(beta=2), "beta")
    refused(lambda: PAI(first_layer=9).on(model).__enter__(), "layers 0 to 3")
    refused(lambda: PAI(last_layer=1).on(model).__enter__(), "later last_layer")
