"""The gate changes nothing before it has learned, acts after, and leaves the model as it was."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, IMAGE, PADDING, TEXT, Family
from grounding.plain_grounding import recorded
from methods.plain_decoding import GREEDY, grown
from sightline.errors import InputError
from sightline.models.anatomy import find_anatomy
from sightline.probes.grounding import GroundedGate, Grounding
from support.leftovers import state_of

NAMES = ["llava", "qwen2_vl", "qwen3_vl", "gemma3", "idefics3", "internvl", "paligemma", "pixtral", "blip2", "kosmos2"]


def llava() -> Family:
    return BY_NAME["llava"]


def learned(model: Any, layers: str = "1+2") -> GroundedGate:
    """A gate that has learned something."""
    gate = GroundedGate.for_model(model, layers)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for part in gate.looks:
            part.output.weight.copy_(torch.randn(part.output.weight.shape, generator=generator))
    return gate


@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_gate_changes_nothing_and_a_learned_one_words_behind_the_image_alone(name: str) -> None:
    case, model = BY_NAME[name].make_inputs(2, "left"), BY_NAME[name].model()
    with torch.no_grad():
        before = model(**case.inputs).logits
        state = state_of(model)
        with GroundedGate.for_model(model, "all").on(model):
            assert torch.equal(model(**case.inputs).logits.nan_to_num(), before.nan_to_num())
        with learned(model, "all").on(model):
            after = model(**case.inputs).logits
        assert torch.equal(model(**case.inputs).logits.nan_to_num(), before.nan_to_num())
    assert state_of(model) == state
    for sample, row in enumerate(case.modality):
        real = [place for place, kind in enumerate(row) if kind != PADDING]
        words = [place for place, kind in enumerate(row) if kind == TEXT and place > row.index(IMAGE)]
        changed = (after[sample] - before[sample]).abs().amax(-1) > 1e-4
        assert bool(changed[words].all())
        if name not in ("gemma3", "paligemma"):  # whose prompts see themselves both ways
            assert not bool(changed[real[: real.index(row.index(IMAGE))]].any())


def test_it_is_the_plain_formula() -> None:
    case, model = llava().make_inputs(2, "left", 2), llava().model()
    gate = learned(model, "3").requires_grad_(False)
    with torch.no_grad():
        features, states, _ = recorded(model, case.inputs, (3,))
        with gate.on(model), Grounding("3").on(model):
            opened: list[Tensor] = []
            anatomy = find_anatomy(model)
            handle = anatomy.norm.register_forward_pre_hook(lambda module, args: opened.append(args[0]))
            model(**case.inputs)
            handle.remove()
    look = gate.looks[0]

    def even(values: Tensor) -> Tensor:
        return values / values.square().mean(-1, keepdim=True).sqrt()

    for sample, row in enumerate(case.modality):
        for word, kind in enumerate(row):
            patches = [place for place, other in enumerate(row[:word]) if other == IMAGE]
            expected = states[3][sample, word]
            if kind == TEXT and patches:
                query, seen = look.query(even(expected)), even(features[sample, patches])
                parts = []
                for head in range(gate.heads):
                    part = slice(head * len(query) // gate.heads, (head + 1) * len(query) // gate.heads)
                    scores = look.key(seen)[:, part] @ query[part] / len(query[part]) ** 0.5
                    parts.append(torch.softmax(scores, 0) @ look.value(seen)[:, part])
                expected = expected + look.output(torch.cat(parts))
            assert torch.allclose(opened[0][sample, word], expected, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"use_cache": False}, {"num_beams": 2}], ids=str)
def test_generated_words_go_on_looking(options: dict[str, Any]) -> None:
    case, model = llava().make_inputs(2, "left"), llava().model()
    settings = {**GREEDY, "suppress_tokens": [120, 121, 122], **options}
    with torch.no_grad(), learned(model).on(model):
        sequences = model.generate(**case.inputs, **settings, output_logits=True, return_dict_in_generate=True)
        tokens = sequences.sequences[:, -GREEDY["max_new_tokens"] :]
        for count in range(tokens.shape[1]) if not options.get("num_beams") else ():
            # A fresh prompt that ends where the answer was: text behind the image, as the answer is.
            again = model(**grown(case.inputs, tokens[:, :count]), use_cache=False).logits[:, -1]
            assert torch.allclose(sequences.logits[count], again, atol=1e-4)
    with torch.no_grad():
        plain = model.generate(**case.inputs, **settings)
    assert not torch.equal(plain[:, -GREEDY["max_new_tokens"] :], tokens)


def gradients(model: Any, gate: GroundedGate, checkpoint: bool | None) -> dict[str, Tensor]:
    """Of the gate and the projector, from two prompts at once, as with a negative caption."""
    cases = [llava().make_inputs(2, "left"), llava().make_inputs(1)]
    if checkpoint is not None:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": checkpoint})
        model.enable_input_require_grads()
    with gate.on(model):
        total = sum(
            model(**case.inputs, use_cache=False).logits[torch.tensor(case.modality) != PADDING].square().mean()
            for case in cases
        )
    total.backward()
    named = itertools.chain(gate.named_parameters(), find_anatomy(model).projector.named_parameters())
    return {name: part.grad.clone() for name, part in named}


@pytest.mark.parametrize("checkpoint", [False, True])
def test_it_trains_also_under_checkpointing(checkpoint: bool) -> None:
    plain = gradients(llava().build().train(), learned(llava().model()), None)
    model = llava().build().train()
    ours = gradients(model, learned(llava().model()), checkpoint)
    functions = {str(layer._gradient_checkpointing_func) for layer in find_anatomy(model).layers}
    assert len(functions) == 1  # that of the gated layers is again that of the others
    for name, gradient in plain.items():
        assert bool(gradient.any()), name
        assert torch.allclose(ours[name], gradient, atol=1e-5 * (1 + float(gradient.abs().max()))), name


def test_a_fresh_gate_learns_from_its_first_step() -> None:
    case, model = llava().make_inputs(), llava().build().requires_grad_(False)
    gate = GroundedGate.for_model(model, "3")
    with gate.on(model):
        model(**case.inputs).logits.square().mean().backward()
    assert bool(gate.looks[0].output.weight.grad.any())
    assert all(part.grad is None for part in model.parameters())
    assert sum(part.numel() for part in gate.parameters()) == 4 * 32 * gate.width


def test_grounding_scores_what_the_gate_makes_of_the_words() -> None:
    case, model = llava().make_inputs(2, "left"), llava().model()
    with torch.no_grad(), Grounding("all").on(model) as plain:
        model(**case.inputs)
    with torch.no_grad(), Grounding("all").on(model) as probe, learned(model, "3").on(model):
        model(**case.inputs)
    assert torch.equal(probe.scores().by_layer[:3], plain.scores().by_layer[:3])
    assert not torch.allclose(probe.scores().by_layer[3], plain.scores().by_layer[3], atol=1e-3)


def test_it_is_saved_beside_the_model(tmp_path: Any) -> None:
    model = llava().model()
    gate = learned(model)
    gate.save(tmp_path)
    again = GroundedGate.load(tmp_path)
    assert again.layers == gate.layers
    assert all(torch.equal(part, again.state_dict()[name]) for name, part in gate.state_dict().items())
    (tmp_path / "grounding_gate.json").write_text('{"layers": [1]}')
    with pytest.raises(InputError, match="holds no settings of a grounding gate"):
        GroundedGate.load(tmp_path)
    with pytest.raises(InputError, match="holds no grounding gate"):
        GroundedGate.load(tmp_path / "nowhere")


def test_mistakes_are_said() -> None:
    model = llava().model()
    for make, reason in [
        (lambda: GroundedGate.for_model(model, "7"), "Layer 7 is out of range"),
        (lambda: GroundedGate.for_model(BY_NAME["llama"].model()), "takes no images"),
        (lambda: GroundedGate.for_model(model, width=6, heads=4), "give a multiple"),
    ]:
        with pytest.raises(InputError, match=reason):
            make()
    with pytest.raises(InputError, match="hidden size 16 and layers up to 9"), GroundedGate((9,), 16, 8).on(model):
        pass
