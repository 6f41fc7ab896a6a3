"""What is not understood is one sentence and never a number, and no other pass is touched."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

from families import BY_NAME
from sightline.attention import AttentionCall, ForwardPass, attach
from sightline.errors import InputError, ModelError
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.pai import PAI
from sightline.methods.vaf import VAF
from sightline.methods.var import VAR
from sightline.methods.vcd import VCD
from sightline.models.anatomy import find_anatomy
from sightline.models.transformers_api.cache import cache_name
from sightline.probes.dominance import Dominance
from sightline.probes.grounding import Grounding
from support.leftovers import state_of
from support.renaming import Renaming

LLAVA = BY_NAME["llava"]
FOUR = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
ACTING = [Dominance(), Grounding(), VAR(dims=(0,), tau=0.1), PAI(), VAF(), FasterVLM(), VCD()]


def names_of(method: Any) -> str:
    return type(method).__name__


class Swallowing(Renaming):
    """A release that hands its cache on in a way that nothing can see."""

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        given = super().prepare_inputs_for_generation(*args, **kwargs)
        self.hidden = given.pop("memory", None)
        return given

    def forward(  # type: ignore[override]
        self, input_ids: Any = None, pixel_values: Any = None, attention_mask: Any = None, **inputs: Any
    ) -> Any:
        return super().forward(input_ids, pixel_values, attention_mask, self.hidden, **inputs)


@pytest.mark.parametrize("kind", [Renaming, Swallowing])
@pytest.mark.parametrize("method", ACTING, ids=names_of)
def test_a_cache_under_a_name_of_the_future_is_one_sentence(method: Any, kind: Any) -> None:
    model = kind(LLAVA.model().config).eval()
    model.load_state_dict(LLAVA.model().state_dict())
    case = LLAVA.make_inputs()
    plain = model.generate(**case.inputs, **FOUR)
    assert torch.equal(plain, LLAVA.model().generate(**case.inputs, **FOUR))
    with pytest.raises(InputError, match="cache"), method.on(model):
        model.generate(**case.inputs, **FOUR)
    assert torch.equal(plain, model.generate(**case.inputs, **FOUR))


def test_one_token_without_a_cache_after_a_prompt_is_refused() -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    with torch.no_grad(), Dominance().on(model):
        model(**case.inputs)
        with pytest.raises(ModelError, match=r"one token .* without a cache"):
            model(input_ids=torch.tensor([[20]]))


def test_a_cache_filled_outside_or_by_another_model_is_refused() -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    name, token = cache_name(model), torch.tensor([[20]])
    with torch.no_grad():
        before = model(**case.inputs)
        with Dominance().on(model), pytest.raises(ModelError, match="were not run inside this `with`"):
            model(input_ids=token, **{name: before[name]})
        others = {**case.inputs, "input_ids": case.inputs["input_ids"].clone()}
        others["input_ids"][0, 1] += 1
        other = model(**others)
        with Dominance().on(model):
            seen = model(**case.inputs)
            with pytest.raises(ModelError, match="another model filled"):
                model(input_ids=token, **{name: other[name]})
            seen[name].update(*(torch.ones(1, 2, 1, 8) for _ in range(2)), 0)
            with pytest.raises(ModelError, match="another model filled"):
                model(input_ids=token, **{name: seen[name]})


def test_copies_of_a_cache_that_was_seen_go_on_from_its_prompt() -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    name, token = cache_name(model), torch.tensor([[20]])
    passes: list[ForwardPass] = []

    class Passes:
        def begin(self, step: ForwardPass) -> None:
            passes.append(step)

        def read(self, *_: Any) -> None: ...

        def end(self, *_: Any) -> None: ...

    with torch.no_grad(), attach(find_anatomy(model), reader=Passes()):
        prompt = model(**case.inputs)[name]
        for _ in range(2):
            model(input_ids=token, **{name: copy.deepcopy(prompt)})
    assert [step.is_start for step in passes] == [True, False, False]
    assert passes[1].offset == passes[2].offset == case.inputs["input_ids"].shape[1]


def test_a_second_prompt_within_one_generate_is_refused() -> None:
    family = BY_NAME["llama"]
    model, case = family.model(), family.make_inputs()
    with pytest.raises(ModelError, match="second prompt"), Dominance().on(model):
        model.generate(**case.inputs, **FOUR, guidance_scale=2.0)


@pytest.mark.parametrize("method", ACTING[:5], ids=names_of)
def test_assisted_decoding_is_refused(method: Any) -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    drafting = [{"assistant_model": BY_NAME["llama"].model()}, {"prompt_lookup_num_tokens": 2}]
    for given in drafting:
        with pytest.raises(InputError, match=f"leave .*{next(iter(given))}.* out"), method.on(model):
            model.generate(**case.inputs, **FOUR, **given)


def test_continuous_batching_is_refused() -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    before = state_of(model)
    for method in (Dominance(), VCD()):
        with method.on(model):
            with pytest.raises(ModelError, match="continuous batching"):
                model.generate_batch(case.inputs["input_ids"].tolist())
            with pytest.raises(ModelError, match="continuous batching"):
                model.generate(**case.inputs, cache_implementation="paged")
    assert state_of(model) == before


def test_an_unknown_tensor_of_an_attention_call_is_refused() -> None:
    module = find_anatomy(LLAVA.model()).attentions[0]
    rows = torch.zeros(1, 2, 3, 8)

    def call(implementation: str, **options: Any) -> AttentionCall:
        return AttentionCall(module, rows, rows, rows, None, implementation, lambda *_: (rows, None), options)  # type: ignore[arg-type]

    for name in ("indices", "block_indices", "sparse_indices"):
        call("sdpa", **{name: torch.zeros(1, 3, 2)})
        with pytest.raises(ModelError, match=f"tensor '{name}'"):
            call("flash_mla", **{name: torch.zeros(1, 3, 2)})
    with pytest.raises(ModelError, match="tensor 'gate'"):
        call("sdpa", gate=torch.zeros(2, 3))


def test_attention_that_is_computed_elsewhere_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model, case = LLAVA.model(), LLAVA.make_inputs()
    attention: Any = find_anatomy(model).attentions[1]
    monkeypatch.setattr(attention, "forward", lambda hidden_states, **_: (hidden_states, None), raising=False)
    with torch.no_grad(), Dominance().on(model), pytest.raises(ModelError, match="layer 1 where it can't be read"):
        model(**case.inputs)


@pytest.mark.parametrize("method", ACTING, ids=names_of)
def test_a_copy_and_a_saved_model_are_the_plain_model(method: Any) -> None:
    model, case = LLAVA.build(), LLAVA.make_inputs()
    plain = LLAVA.model().generate(**case.inputs, **FOUR)
    with method.on(model):
        file = io.BytesIO()
        torch.save(model, file)  # a model that was run can't be saved so: Transformers leaves hooks of its own on it
        model.generate(**case.inputs, **FOUR)
        twin = copy.deepcopy(model)
        assert torch.equal(twin.generate(**case.inputs, **FOUR), plain)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for same in (twin, saved, model):
        assert torch.equal(same.generate(**case.inputs, **FOUR), plain)
        assert torch.equal(same(**case.inputs).logits, LLAVA.model()(**case.inputs).logits)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_other_models_and_the_configuration_are_left_alone(implementation: str) -> None:
    model, other = LLAVA.model(), BY_NAME["llama"].build()
    other.set_attn_implementation(implementation)  # type: ignore[attr-defined]
    case = BY_NAME["llama"].make_inputs()
    with torch.no_grad():
        alone = other(**case.inputs).logits
        names = [part.config._attn_implementation for part in model.modules() if hasattr(part, "config")]
        with Dominance().on(model):
            assert torch.equal(other(**case.inputs).logits, alone)
            inside = [part.config._attn_implementation for part in model.modules() if hasattr(part, "config")]
    assert inside == names
