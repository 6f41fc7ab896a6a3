"""Grounding scores equal the plain formula on every family, carry the right gradient, and leave nothing behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from attention.plain import eager_twin
from families import BY_NAME, EVERY, IMAGE, PADDING, TEXT, VIDEO, Case, Family, str_of
from grounding.plain_grounding import plain_scores, recorded
from methods.plain_decoding import GREEDY, STEPS, grown
from releases.differences import PIECES_TEST, difference
from sightline.errors import InputError, ModelError, SightlineError
from sightline.methods.base import METHODS, parse_spec
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.fastv import FastV
from sightline.methods.var import VAR
from sightline.models.anatomy import find_anatomy
from sightline.models.transformers_api.release import RELEASE
from sightline.probes.dominance import Dominance
from sightline.probes.grounding import Grounding, GroundingHead
from sightline.probes.grounding.formula import score_words
from sightline.probes.grounding.image import unit_length
from support.leftovers import state_of

LATE = "granite4_vision"
"""Its picture is added in front of single layers, and is not in the prompt."""
SEEING = [family for family in EVERY if family.modality in (IMAGE, VIDEO) and family.name != LATE]


def llava() -> Family:
    return BY_NAME["llava"]


def last_two(model: Any) -> tuple[int, ...]:
    return find_anatomy(model).attention_layers[-2:]


def written(layers: tuple[int, ...]) -> str:
    return "+".join(map(str, layers))


def assert_plain(
    spec: Grounding, model: Any, case: Case, layers: tuple[int, ...], attentions: dict[int, Tensor] | None = None
) -> None:
    with torch.no_grad(), spec.on(model) as probe:
        model(**case.inputs)
    with torch.no_grad():
        features, states, _ = recorded(model, case.inputs, layers)
    while features.dim() > 3:
        features = features[0]
    plain, patches = plain_scores(features, states, case.modality, attentions, spec.top)
    scores = probe.scores()
    assert torch.equal(scores.is_text, torch.tensor(case.modality) == TEXT)
    assert torch.allclose(scores.by_layer.double(), plain, atol=1e-6), (scores.by_layer - plain).abs().max()
    assert torch.allclose(scores.values.double(), plain.mean(0), atol=1e-6)
    if spec.top == 1:
        assert torch.equal(scores.patches, patches)


@pytest.mark.parametrize("family", SEEING, ids=str_of)
def test_similarity_is_the_plain_formula(family: Family) -> None:
    layers = last_two(family.model())
    case = family.make_inputs(batch=2, padding="left", images=family.max_images)
    assert_plain(Grounding(layers=written(layers)), family.model(), case, layers)


@pytest.mark.parametrize("family", [LATE])
def test_it_is_refused_where_the_prompt_holds_nothing_of_the_picture(family: str) -> None:
    probe = Grounding().on(BY_NAME[family].model())
    with pytest.raises(ModelError, match="Grounding needs the picture where the decoder begins"), probe:
        pass


@pytest.mark.parametrize(("batch", "padding", "images", "top"), [(1, None, 1, 3), (3, "right", 2, 1), (2, None, 2, 99)])
@pytest.mark.parametrize("name", ["llava", "qwen3_vl"])
def test_similarity_in_batches(name: str, batch: int, padding: str | None, images: int, top: int) -> None:
    model = BY_NAME[name].model()
    layers = tuple(range(len(find_anatomy(model).layers)))
    assert_plain(Grounding("all", top=top), model, BY_NAME[name].make_inputs(batch, padding, images), layers)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3", "idefics3", "blip2"])
def test_attention_is_the_plain_formula(name: str, padding: str) -> None:
    model, case = eager_twin(BY_NAME[name].model()), BY_NAME[name].make_inputs(2, padding)
    layers = last_two(model)
    with torch.no_grad():
        kept = model(**case.inputs, output_attentions=True)
    found = [weights for weights in getattr(kept, "language_model_outputs", kept).attentions if weights is not None]
    everywhere = dict(zip(find_anatomy(model).attention_layers, found, strict=True))
    assert_plain(Grounding(written(layers), kind="attention"), model, case, layers, everywhere)
    image = torch.tensor(case.modality) == IMAGE
    shares = {
        layer: weights / (weights.mean(1, keepdim=True) * image[:, None, None]).sum(-1, keepdim=True).clamp(min=1e-30)
        for layer, weights in everywhere.items()
    }
    assert_plain(Grounding(written(layers), kind="attention", renormalise=True), model, case, layers, shares)


def loss_of(spec: Grounding, model: Any, case: Case, **options: Any) -> Tensor:
    """A loss of the scores and of the model's logits: its gradient goes through all layers."""
    with spec.on(model) as probe:
        logits = model(**case.inputs, use_cache=False, **options).logits
        values = probe.scores().values
    weights = torch.linspace(-1, 1, values.numel()).reshape(values.shape)
    return (values * weights).sum() + logits[torch.tensor(case.modality) != PADDING].square().mean()


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {name: part.grad.clone() for name, part in model.named_parameters() if part.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_same(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> None:
    assert ours.keys() == plain.keys()
    for name, gradient in plain.items():
        scale = 1 + float(gradient.abs().max())
        assert torch.allclose(ours[name], gradient, atol=1e-5 * scale), (name, (ours[name] - gradient).abs().max())


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_the_gradient_is_that_of_the_plain_formula(name: str) -> None:
    model, case = BY_NAME[name].build().train(), BY_NAME[name].make_inputs(2, "left")
    layers = last_two(model)
    ours = gradients(model, loss_of(Grounding(written(layers)), model, case))
    features, states, output = recorded(model, case.inputs, layers, use_cache=False)
    values = plain_scores(features, states, case.modality)[0].mean(0)
    weights = torch.linspace(-1, 1, values.numel()).reshape(values.shape)
    real = torch.tensor(case.modality) != PADDING
    assert_same(ours, gradients(model, (values * weights).sum() + output.logits[real].square().mean()))


@pytest.mark.parametrize("is_reentrant", [False, True])
@pytest.mark.parametrize("kind", ["similarity", "attention"])
def test_checkpointing_changes_no_gradient(is_reentrant: bool, kind: str) -> None:
    model, case = llava().build().train(), llava().make_inputs(2, "left")
    # Reentrant checkpoints ask for an input that requires gradients.
    plain = gradients(model, loss_of(Grounding("all", kind=kind), model, case))
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": is_reentrant})
    if is_reentrant:
        model.enable_input_require_grads()
    loss = loss_of(Grounding("all", kind=kind), model, case)
    other = loss_of(Grounding("all", kind=kind), model, llava().make_inputs(1))
    assert_same(gradients(model, loss + 0 * other), plain)


def test_the_gradient_reaches_the_projector_unless_detached() -> None:
    model, case = llava().build().train(), llava().make_inputs()
    model.requires_grad_(False)
    find_anatomy(model).projector.requires_grad_(True)
    for is_detached in (False, True):
        with Grounding("0", detach_image=is_detached).on(model) as probe:
            model(**case.inputs, use_cache=False)
        before_image = case.modality[0].index(IMAGE)
        # Words before the image do not see it: what reaches the projector comes through its patches alone.
        found = gradients(model, probe.scores().values[0, :before_image].sum())
        assert any(bool(gradient.any()) for gradient in found.values()) is not is_detached


def test_words_and_patches_of_zeros_score_zero_with_a_finite_gradient() -> None:
    words, patches = torch.randn(3, 8), torch.randn(4, 8)
    words[1], patches[2] = 0.0, 0.0
    words.requires_grad_(True)
    patches.requires_grad_(True)
    found = score_words(Grounding(top=4), None, 0, words, patches, unit_length(patches), None).values
    assert found[1] == 0
    for gradient in torch.autograd.grad(found.sum(), (words, patches)):
        assert float(gradient.abs().max()) < 10
    assert torch.allclose(unit_length(1e-9 * patches)[0], unit_length(patches)[0], atol=1e-6)


def test_autocast_and_low_precision_score_in_float32() -> None:
    model, case = llava().build(), llava().make_inputs(2, "left")
    with torch.no_grad(), Grounding("all").on(model) as probe:
        model(**case.inputs)
        exact = probe.scores().values
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(**case.inputs)
        rough = probe.scores().values
        low = model.to(torch.bfloat16)
        low(**{name: part.bfloat16() if part.is_floating_point() else part for name, part in case.inputs.items()})
        lower = probe.scores().values
    for values in (rough, lower):
        assert values.dtype == torch.float32
        assert torch.allclose(values, exact, atol=0.05)
    features, states, _ = recorded(
        low,
        {name: part.bfloat16() if part.is_floating_point() else part for name, part in case.inputs.items()},
        (0, 1, 2, 3),
    )
    plain = plain_scores(features.detach(), {n: s.detach() for n, s in states.items()}, case.modality)[0].mean(0)
    assert torch.allclose(lower.double(), plain, atol=1e-6)


MODES: list[dict[str, Any]] = [
    {},
    {"use_cache": False},
    {"cache_implementation": "static", "disable_compile": True},
    {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 5},
    {"do_sample": True, "num_return_sequences": 2},
    {"prefill_chunk_size": 7},
]
CELLS = [
    pytest.param(name, options, id=f"{name}-{'+'.join(options) or 'greedy'}")
    for name in ("llava", "qwen2_vl")
    for options in MODES
    # Qwen's positions do not come in pieces; and some releases lose the image of a prompt that does.
    if "prefill_chunk_size" not in options or (name == "llava" and difference(PIECES_TEST, RELEASE) is None)
]


@pytest.mark.parametrize(("name", "options"), CELLS)
def test_generated_tokens_score_as_they_do_when_read_again(name: str, options: dict[str, Any]) -> None:
    family = BY_NAME[name]
    case, model = family.make_inputs(2, "left"), family.model()
    settings = {**GREEDY, "suppress_tokens": [120, 121, 122], **options}
    torch.manual_seed(3)
    with torch.no_grad(), Grounding("all").on(model) as probe:
        sequences = model.generate(**case.inputs, **settings)
    length = case.inputs["input_ids"].shape[1]
    tokens, copies = sequences[:, length:], len(sequences) // 2
    answers = probe.result()
    assert [[score.token for score in row] for row in answers] == tokens.tolist()
    for number, row in enumerate(answers):
        sample = number // copies
        with torch.no_grad(), Grounding("all").on(model) as again:
            both = tokens[[number, number]]
            model(**grown(case.inputs, both), use_cache=False)
        scores = again.scores()
        for count, score in enumerate(row[:-1]):
            assert score.score == pytest.approx(float(scores.values[sample, length + count]), abs=1e-5)
            assert score.layers == pytest.approx(scores.by_layer[:, sample, length + count].tolist(), abs=1e-5)
            image = [place for place, kind in enumerate(case.modality[sample]) if kind == IMAGE]
            assert image[score.patch] == int(scores.patches[sample, length + count])
            rows, columns = case.grids[sample][score.grid]
            assert (rows, columns) == (3, 3) if name == "llava" else columns
            assert score.row * columns + score.column == score.patch
        assert row[-1].score is None
        assert row[-1].patch is None


def test_an_answer_ends_at_its_end_token() -> None:
    case, model = llava().make_inputs(2), llava().model()
    answers = [[5, 2, 9], [6, 7, 2]]
    start = case.inputs["input_ids"].shape[1]

    def forced(sample: int, ids: Tensor) -> list[int]:
        return [answers[sample][len(ids) - start]]

    options = {"eos_token_id": 2, "pad_token_id": 0, "prefix_allowed_tokens_fn": forced, "do_sample": False}
    with torch.no_grad(), Grounding().on(model) as probe:
        model.generate(**case.inputs, max_new_tokens=3, **options)
        model.generate(**case.inputs, max_new_tokens=1, **options)
    rows = probe.result()
    assert [[score.token for score in row] for row in rows] == [[5, 2], [6, 7, 2], [5], [6]]
    # What one sample ends with is read while another goes on; the last token of all is never read.
    missing = [[score.score is None for score in row] for row in rows]
    assert missing == [[False, False], [False, False, True], [True], [True]]
    assert rows[0][0].to_dict()["layers"] == list(rows[0][0].layers)


@pytest.mark.parametrize("kind", ["similarity", "attention"])
@pytest.mark.parametrize("name", ["llava", "qwen3_5", "mistral3"])
def test_the_model_is_only_read_and_nothing_is_left(name: str, kind: str) -> None:
    case, model = BY_NAME[name].make_inputs(2, "left"), BY_NAME[name].model()
    spec = Grounding(written(last_two(model)), kind=kind)
    with torch.no_grad():
        before, state = model.generate(**case.inputs, **GREEDY), state_of(model)
        logits = model(**case.inputs).logits
        with spec.on(model):
            assert torch.equal(model.generate(**case.inputs, **GREEDY), before)
            assert torch.equal(model(**case.inputs).logits.nan_to_num(), logits.nan_to_num())
        with pytest.raises(ZeroDivisionError), spec.on(model) as probe:
            model.generate(**case.inputs, **GREEDY, prefix_allowed_tokens_fn=lambda *_: 1 // 0)
        assert state_of(model) == state
        assert "generate" not in model.__dict__
        assert torch.equal(model(**case.inputs).logits.nan_to_num(), logits.nan_to_num())
    with pytest.raises(SightlineError, match="Nothing was generated"):
        probe.result()


def test_beside_var_and_dominance_it_scores_what_the_model_then_computes() -> None:
    case, model = llava().make_inputs(2, "left"), llava().model()
    method = VAR(dims=(3, 11), tau=1.3, rho=0.6, summ=0.1, p=0.4)
    scores, masses = [], []
    for is_first in (True, False):
        one, other = (Grounding("all"), method) if is_first else (method, Grounding("all"))
        with torch.no_grad(), one.on(model) as first, other.on(model) as second, Dominance().on(model) as dominance:
            model(**case.inputs)
        scores.append((first if is_first else second).scores().values)
        masses.append([sample.to_dict() for sample in dominance.result().samples])
    with torch.no_grad(), Grounding("all").on(model) as plain:
        model(**case.inputs)
    with torch.no_grad(), method.on(model), Dominance().on(model) as alone:
        model(**case.inputs)
    assert torch.equal(scores[0], scores[1])
    assert not torch.allclose(scores[0], plain.scores().values, atol=1e-3)
    assert masses[0] == masses[1] == [sample.to_dict() for sample in alone.result().samples]


@pytest.mark.parametrize("method", [FasterVLM(r=0.6), FastV(R=0.6)])
@pytest.mark.parametrize("is_first", [True, False])
def test_beside_methods_that_drop_patches(method: Any, is_first: bool) -> None:
    case, model = llava().make_inputs(2, "left"), llava().model()
    order = (Grounding("all", kind="attention"), method) if is_first else (method, Grounding("all", kind="attention"))
    with torch.no_grad(), order[0].on(model) as first, order[1].on(model) as second:
        model.generate(**case.inputs, **GREEDY)
    rows = (first if is_first else second).result()
    assert [len(row) for row in rows] == [STEPS, STEPS]
    assert all(score.score is not None for row in rows for score in row[:-1])


def test_inside_peft_with_a_frozen_base() -> None:
    peft = pytest.importorskip("peft")
    case, model = llava().make_inputs(2, "left"), llava().build().train()
    settings = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=2, lora_dropout=0.0)
    wrapped = peft.get_peft_model(model, settings)
    for is_checkpointed in (False, True):
        if is_checkpointed:
            wrapped.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        with Grounding().on(wrapped) as probe:
            wrapped(**case.inputs, use_cache=False)
        found = gradients(wrapped, probe.scores().values.sum())
        assert any(bool(part.any()) for part in found.values())
        assert all("lora" in name for name in found)
    wrapped.eval()
    with torch.no_grad(), Grounding().on(wrapped) as probe:
        wrapped.generate(**case.inputs, **GREEDY)
    assert len(probe.result()) == 2


def test_a_linear_projection_begins_as_none() -> None:
    case, model = llava().make_inputs(2, "left"), llava().model()
    spec = Grounding(projection="linear")
    head = spec.make_head(model)
    with torch.no_grad(), Grounding().on(model) as plain, spec.on(model, head=head) as probe:
        model(**case.inputs)
    assert torch.allclose(plain.scores().by_layer, probe.scores().by_layer, atol=1e-6)
    with spec.on(copy.deepcopy(model).requires_grad_(False), head=head) as probe:
        probe._anatomy.model(**case.inputs)
    probe.scores().values.sum().backward()
    assert all(bool(part.grad.any()) for part in head.parameters())


def test_the_judge_scores_words_and_what_they_attend_to(tmp_path: Any) -> None:
    case, model = llava().make_inputs(2, "left"), eager_twin(llava().model())
    spec = Grounding("2+3", kind="learned")
    head = spec.make_head(model, seed=5)
    with torch.no_grad(), spec.on(model, head=head) as probe:
        model(**case.inputs)
        attentions = model(**case.inputs, output_attentions=True).attentions
        features, states, _ = recorded(model, case.inputs, (2, 3))
    head.requires_grad_(False)
    found = probe.scores().by_layer
    for number, layer in enumerate((2, 3)):
        for sample, row in enumerate(case.modality):
            image = [place for place, kind in enumerate(row) if kind == IMAGE]
            for word in (place for place, kind in enumerate(row) if kind == TEXT):
                share = attentions[layer][sample].mean(0)[word, image]
                seen = share / share.sum().clamp(min=1e-30) @ features[sample, image]
                parts = [part / part.norm().clamp(min=1e-12) * 32**0.5 for part in (states[layer][sample, word], seen)]
                plain = torch.tanh(head.judges[number](torch.cat(parts)))[0]
                assert float(found[number, sample, word]) == pytest.approx(plain.item(), abs=1e-5)
    head.save(tmp_path)
    with torch.no_grad(), spec.on(model, head=GroundingHead.load(tmp_path)) as again:
        model(**case.inputs)
    assert torch.equal(again.scores().by_layer, found)


def test_a_head_that_does_not_fit_is_refused(tmp_path: Any) -> None:
    model, spec = llava().model(), Grounding("2+3", kind="learned")
    for other, reason in [
        (Grounding("3", kind="learned").make_head(model), "layers 3 and 2\\+3 are asked for"),
        (Grounding("2+3", projection="linear").make_head(model), "projection=linear"),
        (GroundingHead((2, 3), 16, "learned"), "hidden size 16 and the model of 32"),
    ]:
        with pytest.raises(InputError, match=reason), spec.on(model, head=other):
            pass
    with pytest.raises(InputError, match="no learned part"), Grounding().on(model, head=spec.make_head(model)):
        pass
    with pytest.raises(InputError, match="holds no grounding head"), spec.on(model):
        pass
    with pytest.raises(InputError, match="learns nothing"):
        Grounding().make_head(model)
    spec.make_head(model).save(tmp_path)
    weights = tmp_path / "grounding_head.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(InputError, match="can't be read as the weights"):
        GroundingHead.load(tmp_path)
    weights.unlink()
    with pytest.raises(InputError, match="is missing beside its settings"):
        GroundingHead.load(tmp_path)
    Grounding("1+2+3", kind="learned").make_head(model).save(tmp_path / "other")
    (tmp_path / "other" / weights.name).rename(weights)
    with pytest.raises(InputError, match="does not fit the settings beside it"):
        GroundingHead.load(tmp_path)
    for text in ("[1]", "{", '{"layers": [1]}', "\x00"):
        (tmp_path / "grounding_head.json").write_text(text)
        with pytest.raises(InputError, match="settings"):
            GroundingHead.load(tmp_path)


def test_the_command_line_knows_it() -> None:
    assert METHODS["grounding"] is Grounding
    for spec in ("grounding:layers=2+3,kind=attention,top=2", "grounding:layers=last3,detach_image=True", "grounding"):
        assert parse_spec(spec).spec() == spec
    for wrong in ("layers=last0", "layers=-1", "layers=two", "kind=guess", "projection=cubic", "top=0", "layers="):
        with pytest.raises(InputError, match=wrong.partition("=")[0]):
            parse_spec(f"grounding:{wrong}")
    with pytest.raises(InputError, match="no cosine"):
        Grounding(kind="learned", projection="linear")


@pytest.mark.parametrize(
    ("spec", "name", "reason"),
    [
        (Grounding("9"), "llava", "Layer 9 is out of range in grounding: the model has layers 0 to 3"),
        (Grounding("last5"), "llava", "the model has 4"),
        (Grounding("0", kind="attention"), "qwen3_5", "Layer 0 has no softmax attention"),
        (Grounding(), "llama", "takes no images"),
        (Grounding(), "qwen2_audio", "takes no images"),
    ],
)
def test_what_can_not_be_is_said_in_a_sentence(spec: Grounding, name: str, reason: str) -> None:
    model = BY_NAME[name].model()
    state = state_of(model)
    with pytest.raises(InputError, match=reason) as caught, spec.on(model):
        pass
    assert str(caught.value).count(". ") == 0
    assert state_of(model) == state


def test_a_prompt_without_an_image_is_refused() -> None:
    model, state = llava().model(), state_of(llava().model())
    ids = torch.randint(10, 100, (1, 5))
    with Grounding().on(model) as probe:
        with pytest.raises(InputError, match="this prompt has none"):
            model(input_ids=ids)
        with pytest.raises(SightlineError, match="No words were scored"):
            probe.scores()
    with pytest.raises(InputError, match="leave assistant_model"), Grounding().on(model):
        model.generate(**llava().make_inputs().inputs, prompt_lookup_num_tokens=2)
    assert state_of(model) == state


def test_a_sample_without_an_image_beside_one_with_scores_nothing() -> None:
    model, case = llava().model(), llava().make_inputs(2)
    ids = case.inputs["input_ids"].clone()
    ids[1] = ids[1].masked_fill(torch.tensor(case.modality[1]) == IMAGE, 50)
    inputs = {**case.inputs, "input_ids": ids, "pixel_values": case.inputs["pixel_values"][:1]}
    with torch.no_grad(), Grounding().on(model) as probe:
        model(**inputs)
        scores = probe.scores()
        model.generate(**inputs, **GREEDY)
    assert not bool(scores.is_text[1].any())
    assert not bool(scores.values[1].any())
    assert bool(scores.values[0].any())
    assert [score.score is None for score in probe.result()[1]] == [True] * STEPS
