"""VAR equals its equations in every layer's output, on every family with an image, in every way of generating."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch

from attention.plain import Rows, eager_twin
from families import BY_NAME, FAMILIES, IMAGE, PADDING, VIDEO, Family, str_of
from methods.plain_model import plain_model
from methods.plain_var import GREEDY, MILD, compare_with_plain, generate
from sightline.attention import attach, limit_block_bytes
from sightline.errors import InputError, SightlineWarning
from sightline.methods.base import parse_spec
from sightline.methods.var import VAR, Redistribution
from sightline.models.anatomy import find_anatomy
from sightline.models.transformers_api.cache import cache_from, with_cache
from sightline.probes.dominance import Dominance
from support.leftovers import state_of

SEEING = [family for family in FAMILIES if family.modality in (IMAGE, VIDEO)]
SHORT = {"max_new_tokens": 2, "min_new_tokens": 2}


@pytest.mark.parametrize(("batch", "padding", "images"), [(1, None, 2), (2, "left", 1)])
@pytest.mark.parametrize("family", SEEING, ids=str_of)
def test_equals_the_equations(family: Family, batch: int, padding: str | None, images: int) -> None:
    case = family.make_inputs(batch=batch, padding=padding, images=min(images, family.max_images))
    worst, count = compare_with_plain(
        family.model(), case, lambda model: generate(model, case, **SHORT), VAR(**MILD, skip_last=False)
    )
    assert worst < 1e-5
    assert count > 0


WAYS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "no cache": {"use_cache": False},
    "static cache": {"cache_implementation": "static", "disable_compile": True},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl", "gemma3", "llava_next"])
def test_every_way_of_generating_equals_the_equations(name: str, way: str) -> None:
    family = BY_NAME[name]
    case = family.make_inputs(batch=2, padding="left")
    copies = WAYS[way].get("num_beams", WAYS[way].get("num_return_sequences", 1))
    worst, count = compare_with_plain(
        family.model(), case, lambda model: generate(model, case, **WAYS[way]), VAR(**MILD), copies=copies
    )
    assert worst < 1e-5
    assert count > 0


@pytest.mark.parametrize("name", ["llava", "llava_next", "qwen2_vl", "qwen3_vl", "internvl", "mistral3", "idefics3"])
def test_answers_are_those_of_a_model_patched_by_hand(name: str) -> None:
    family = BY_NAME[name]
    case, model, method = family.make_inputs(batch=2, padding="left"), family.model(), VAR(**MILD)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        plain = model.generate(**case.inputs, **options, do_sample=False)
        with plain_model(model, case, method):
            by_hand = model.generate(**case.inputs, **options, do_sample=False)
        with method.on(model):
            ours = model.generate(**case.inputs, **options, do_sample=False)
    assert torch.equal(ours.sequences, by_hand.sequences)
    assert torch.allclose(torch.stack(ours.logits), torch.stack(by_hand.logits), atol=1e-3)
    assert not torch.allclose(plain.logits[0], ours.logits[0], atol=1e-2)


@pytest.mark.parametrize("family", SEEING, ids=str_of)
def test_p_of_1_is_bit_identical_and_nothing_is_left(family: Family) -> None:
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    options = {**SHORT, "output_logits": True, "return_dict_in_generate": True}
    plain = generate(model, case, **options)
    state = state_of(model)
    with VAR(**MILD | {"p": 1.0}).on(model):
        same = generate(model, case, **options)
    with VAR(**MILD).on(model):
        generate(model, case, **SHORT)
    assert state_of(model) == state
    after = generate(model, case, **options)
    for one, two, three in zip(plain.logits, same.logits, after.logits, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"do_sample": True, "num_return_sequences": 3}])
def test_nothing_is_left_after_an_exception(options: dict[str, Any]) -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    plain = generate(model, case)
    state = state_of(model)

    def fail(batch: int, ids: torch.Tensor) -> list[int]:
        if ids.shape[-1] > case.inputs["input_ids"].shape[1]:
            raise ZeroDivisionError
        return list(range(100))

    with pytest.raises(ZeroDivisionError), VAR(**MILD).on(model):
        generate(model, case, prefix_allowed_tokens_fn=fail, **options)
    assert state_of(model) == state
    assert torch.equal(generate(model, case), plain)


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_rows_sum_to_one_and_only_those_meant_change(name: str) -> None:
    family = BY_NAME[name]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    method = VAR(**MILD, heads=(1,), layers=(2,))
    before, after = Rows(), Rows()
    with torch.no_grad(), attach(find_anatomy(model), reader=before):
        generate(model, case)
    with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=after), limit_block_bytes(2_000):
        generate(model, case)
    real = torch.tensor(case.modality) != PADDING
    for layer, weights in after.steps[0].items():
        sums = weights.sum(-1)[real[:, None].expand(weights.shape[:3])]
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-5)
        if layer <= 2:
            same = torch.isclose(weights, before.steps[0][layer], atol=1e-6).all(-1)
            assert bool(same[:, [0, 2, 3]].all())
            assert bool(same[:, 1].all()) == (layer < 2)


def test_a_sample_of_a_batch_is_changed_as_it_is_alone() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(batch=3, padding="left"), family.model()
    # The second sample has no image: it must answer as without VAR.
    ids, modality = case.inputs["input_ids"].clone(), torch.tensor(case.modality)
    ids[1, modality[1] == IMAGE] = 50
    inputs = case.inputs | {"input_ids": ids, "pixel_values": case.inputs["pixel_values"][[0, 2]]}
    options = {**GREEDY, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad(), VAR(**MILD).on(model):
        together = model.generate(**inputs, **options).logits
    for row, picture in ((0, 0), (1, None), (2, 1)):
        skip = int((modality[row] == PADDING).sum())
        alone = {name: inputs[name][row : row + 1, skip:] for name in ("input_ids", "attention_mask")}
        if picture is None:
            with torch.no_grad():
                expected = model.generate(**alone, **options).logits
        else:
            alone["pixel_values"] = inputs["pixel_values"][picture : picture + 1]
            with torch.no_grad(), VAR(**MILD).on(model):
                expected = model.generate(**alone, **options).logits
        for ours, theirs in zip(together, expected, strict=True):
            assert torch.allclose(ours[row], theirs[0], atol=1e-4)


def test_the_image_gets_what_the_sinks_lose_and_the_probe_sees_it() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    strong = VAR(dims=(3, 11), tau=1.3, rho=1.0, summ=0.0, p=0.0)
    masses = []
    for method in (VAR(**MILD | {"p": 1.0}), strong):
        with torch.no_grad(), method.on(model), Dominance(queries="generated").on(model) as probe:
            generate(model, case)
        masses.append(probe.result().samples[0].layers[2].masses)
    assert masses[1]["text"] < masses[0]["text"]
    assert masses[1]["image"] > masses[0]["image"]
    assert sum(masses[1][name] for name in ("text", "image")) <= 1 + 1e-5


def test_several_prompts_in_one_with_each_have_their_own_sinks() -> None:
    family = BY_NAME["llava"]
    model = family.model()
    cases = [family.make_inputs(), family.make_inputs(images=2), family.make_inputs(batch=2, padding="left")]
    with VAR(**MILD).on(model):
        together = [generate(model, case) for case in cases]
    for case, tokens in zip(cases, together, strict=True):
        with VAR(**MILD).on(model):
            assert torch.equal(generate(model, case), tokens)


OTHERS = ["pai", "vcd", "vaf", "fastv", "fastervlm", "adaptvis"]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("spec", OTHERS)
def test_goes_together_with_other_methods(spec: str, is_first: bool) -> None:
    """Another method's second pass or shorter layers do not change which tokens are sinks."""
    family = BY_NAME["llava"]
    case, model = family.make_inputs(batch=2, padding="left"), family.model()
    other = parse_spec(spec)
    assert other is not None
    plain = generate(model, case)
    state = state_of(model)
    marks: dict[str, dict[int, torch.Tensor]] = {}

    class Marking(Redistribution):
        def describe(self, layer: int, step: Any, image: Any, sinks: Any) -> Any:
            marks.setdefault(kind, {})[layer] = sinks
            return super().describe(layer, step, image, sinks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sightline.methods.var.Redistribution", Marking)
        for kind in ("alone", "together"):
            methods = [VAR(**MILD), *([other] if kind == "together" else [])]
            with ExitStack() as stack:
                for method in methods if is_first else reversed(methods):
                    stack.enter_context(method.on(model))
                tokens = generate(model, case)
            assert tokens.shape[1] == case.inputs["input_ids"].shape[1] + 3
    assert state_of(model) == state
    assert torch.equal(generate(model, case), plain)
    # FasterVLM changes the prompt itself, VAF and AdaptVis what deeper layers compute.
    if spec in ("pai", "vcd", "fastv"):
        assert marks["together"].keys() == marks["alone"].keys()
        assert torch.equal(marks["together"][2], marks["alone"][2])


@pytest.mark.parametrize("name", ["llava", "gemma3"])
def test_a_model_on_eager_attention_equals_the_equations(name: str) -> None:
    family = BY_NAME[name]
    case, twin = family.make_inputs(batch=2, padding="left"), eager_twin(family.model())
    worst, count = compare_with_plain(twin, case, lambda model: generate(model, case), VAR(**MILD))
    assert worst < 1e-5
    assert count > 0


def test_a_prompt_in_two_pieces_is_the_whole_prompt() -> None:
    family = BY_NAME["llava"]
    case, model = family.make_inputs(), family.model()
    ids, end = case.inputs["input_ids"], int((torch.tensor(case.modality[0]) == IMAGE).nonzero().max()) + 2
    with torch.no_grad(), VAR(**MILD).on(model):
        whole = model(**case.inputs).logits
        first = model(input_ids=ids[:, :end], pixel_values=case.inputs["pixel_values"], use_cache=True)
        second = model(**with_cache({"input_ids": ids[:, end:]}, cache_from(first), model), use_cache=True)
    assert torch.allclose(torch.cat([first.logits, second.logits], 1), whole, atol=1e-4)


def test_half_precision_runs() -> None:
    family = BY_NAME["llava"]
    model = family.build().to(torch.bfloat16)
    case = family.make_inputs(batch=2, padding="left")
    case.inputs["pixel_values"] = case.inputs["pixel_values"].to(torch.bfloat16)
    with VAR(**MILD).on(model):
        assert generate(model, case).shape[1] == case.inputs["input_ids"].shape[1] + 3


def test_a_spec_names_the_fields() -> None:
    assert parse_spec("var:dims=3+11,p=0.5,layers=2+3") == VAR(dims=(3, 11), p=0.5, layers=(2, 3))
    assert parse_spec("var:p=0.5", {"dims": (4,), "tau": 3.0}) == VAR(dims=(4,), tau=3.0, p=0.5)
    assert parse_spec("var:tau=5", {"dims": (4,), "tau": 3.0}) == VAR(dims=(4,), tau=5.0)
    assert VAR(dims=[4]).dims == (4,)  # type: ignore[arg-type]


def test_mistakes_are_said() -> None:
    family = BY_NAME["llava"]
    model = family.model()
    for fields, said in (
        ({}, "needs the model's sink dimensions"),
        ({"dims": (32,)}, "Sink dimension 32 is out of range"),
        ({"dims": (3,), "layers": (4,)}, "Layer 4 is out of range in var: the model has layers 0 to 3"),
        ({"dims": (3,), "heads": (4,)}, "Head 4 is out of range"),
    ):
        with pytest.raises(InputError, match=said), VAR(**{"tau": 2.0, **fields}).on(model):
            pass
    for fields, said in (({"p": 1.5}, "p is 1.5"), ({"rho": -1}, "rho is -1"), ({"tau": 0}, "tau is 0")):
        with pytest.raises(InputError, match=said):
            VAR(**fields)
    with pytest.warns(SightlineWarning, match=r"no phi exceeds sqrt\(32\) = 5.7"), VAR(dims=(3,)).on(model):
        pass
    with pytest.warns(SightlineWarning, match="no sinks were found in this model"), VAR(dims=()).on(model):
        pass
    text = BY_NAME["llama"]
    with pytest.raises(InputError, match="this prompt has none"), VAR(**MILD).on(text.model()):
        generate(text.model(), text.make_inputs())


def test_found_sinks_are_its_dims_and_bring_their_threshold() -> None:
    from sightline.probes.sinks import Sinks

    found = Sinks.from_dict({"model": "m", "dims": [3, 5], "tau": 4.5, "candidates": [], "layers": []})
    assert VAR(found) == VAR(dims=(3, 5), tau=4.5)
    assert VAR(found, tau=6.0) == VAR(dims=(3, 5), tau=6.0)
