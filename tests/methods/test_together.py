"""What holds for every method here: idle settings change nothing, nothing is left, all compose, any decoding works."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME
from methods.plain_decoding import GREEDY, RECORD, STEPS, text_alone
from sightline.attention import EditedCall, ForwardPass, attach
from sightline.errors import InputError, SightlineError
from sightline.methods.adaptvis import AdaptVis
from sightline.methods.base import Method, parse_spec
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.fastv import FastV
from sightline.methods.pai import PAI
from sightline.methods.shorten import TokenSelection
from sightline.methods.vaf import VAF
from sightline.methods.var import VAR
from sightline.methods.vcd import VCD
from sightline.models.anatomy import find_anatomy
from sightline.probes.dominance import Dominance
from support.hiding import Hide
from support.leftovers import state_of

pytestmark = pytest.mark.filterwarnings("ignore:fastervlm.*this vision tower")

METHODS: dict[str, Method] = {
    "pai": PAI(),
    "vcd": VCD(),
    "vaf": VAF(),
    "adaptvis": AdaptVis(),
    "fastv": FastV(),
    "fastervlm": FasterVLM(r=0.6),
}
IDLE = ["pai:alpha=0,gamma=1", "vcd:alpha=0", "vaf:enhance=1,suppress=1", "adaptvis:weak=1,strong=1", "fastv:R=0"]
IDLE += ["fastervlm:r=0"]
FAMILIES = ["llava", "qwen2_vl", "paligemma"]
NO_IMAGES = {**GREEDY, "suppress_tokens": [120]}


def attributes_of(model: Any) -> str:
    """What the modules hold beside parameters, buffers and hooks, `rope_deltas` of the last prompt aside."""
    held = [{n: v for n, v in vars(part).items() if n[0] != "_" and n != "rope_deltas"} for part in model.modules()]
    return str(held)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spec", IDLE)
def test_idle_settings_change_no_bit(spec: str, family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    method = parse_spec(spec)
    assert method is not None
    plain = model.generate(**case.inputs, **GREEDY, **RECORD)
    with method.on(model):
        ours = model.generate(**case.inputs, **GREEDY, **RECORD)
    assert all(torch.equal(a, b) for a, b in zip(plain.logits, ours.logits, strict=True))
    assert torch.equal(plain.sequences, ours.sequences)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_nothing_is_left(name: str, family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    plain = model.generate(**case.inputs, **NO_IMAGES)
    state, held = state_of(model), attributes_of(model)

    class Failing:
        def begin(self, step: ForwardPass) -> None:
            pass

        def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
            if step.is_decoding:
                raise ZeroDivisionError

        def end(self, step: ForwardPass) -> None:
            pass

    with METHODS[name].on(model):
        first = model.generate(**case.inputs, **NO_IMAGES)
        with pytest.raises(ZeroDivisionError), attach(find_anatomy(model), reader=Failing()):
            model.generate(**case.inputs, **NO_IMAGES)
        # Within the `with`, too, a prompt that failed leaves no trace.
        assert torch.equal(model.generate(**case.inputs, **NO_IMAGES), first)
    assert state_of(model) == state
    assert attributes_of(model) == held
    assert torch.equal(model.generate(**case.inputs, **NO_IMAGES), plain)


@pytest.mark.parametrize(("first", "second"), list(combinations(METHODS, 2)))
def test_pairs_compose_under_a_probe(first: str, second: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    state = state_of(model)
    found = []
    for names in ((first, second), (second, first)):
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(METHODS[name].on(model))
            probe = stack.enter_context(Dominance().on(model))
            stack.enter_context(torch.no_grad())
            found.append(model.generate(**case.inputs, **NO_IMAGES))
            images = 4 if "fastervlm" in names else 9
            assert [sample.tokens["image"] for sample in probe.result().samples] == [images] * 2
    assert state_of(model) == state


@pytest.mark.parametrize("name", METHODS)
def test_all_compose_with_sinks(name: str) -> None:
    """VAR looks at hidden states, which second passes and dropped tokens must not disturb."""
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    var = VAR(dims=(3, 11), tau=1.3, rho=0.9, summ=0.0, p=0.4)
    with METHODS[name].on(model):
        alone = model.generate(**case.inputs, **NO_IMAGES, **RECORD)
        with var.on(model):
            inside = model.generate(**case.inputs, **NO_IMAGES, **RECORD)
    with var.on(model), METHODS[name].on(model):
        outside = model.generate(**case.inputs, **NO_IMAGES, **RECORD)
    assert not torch.allclose(alone.logits[0], inside.logits[0])
    if name in ("vcd", "fastervlm"):  # the others change scores before VAR or choose tokens after it
        assert torch.allclose(inside.logits[0], outside.logits[0], atol=1e-4)


def test_confidence_is_that_of_the_whole_prompt() -> None:
    """AdaptVis measures the untouched model, also where FasterVLM shortens what it then acts on."""
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    with torch.no_grad():
        sure = model(**case.inputs).logits[:, -1].softmax(-1).amax(-1)
    changed: list[Tensor] = []

    class Look:
        def begin(self, step: ForwardPass) -> None:
            pass

        def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
            last = torch.tensor([attention.call.queries - 1])
            before, after = EditedCall(attention.call).row_weights(last), attention.row_weights(last)
            changed.append((before != after).flatten(1).any(1))

        def end(self, step: ForwardPass) -> None:
            pass

    method = AdaptVis(threshold=float(sure.mean()), weak=1, strong=3)
    with torch.no_grad(), FasterVLM(r=0.6).on(model), method.on(model), attach(find_anatomy(model), reader=Look()):
        model(**case.inputs)
    assert torch.equal(changed[0], sure >= sure.mean())


WAYS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "samples": {"do_sample": True, "num_return_sequences": 2},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["fastv", "fastervlm"])
def test_dropping_equals_hiding_in_any_decoding(name: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Qwen2-VL positions are kept, so that both methods equal hiding the tokens from all rows."""
    case, model = BY_NAME["qwen2_vl"].make_inputs(2, "left"), BY_NAME["qwen2_vl"].model()
    seen: list[Tensor] = []
    original = TokenSelection.of.__func__
    monkeypatch.setattr(
        TokenSelection, "of", classmethod(lambda cls, keep, real: seen.append(keep) or original(cls, keep, real))
    )
    options = {**NO_IMAGES, **WAYS[way]}
    torch.manual_seed(5)
    with METHODS[name].on(model):
        ours = model.generate(**case.inputs, **options)
    (keep,) = seen
    torch.manual_seed(5)
    with attach(find_anatomy(model), editor=Hide(~keep, 2 if name == "fastv" else 0)):
        plain = model.generate(**case.inputs, **options)
    assert torch.equal(ours, plain)


@pytest.mark.parametrize("name", METHODS)
def test_without_a_cache_the_answer_is_the_same(name: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    with METHODS[name].on(model):
        cached = model.generate(**case.inputs, **NO_IMAGES)
        assert torch.equal(model.generate(**case.inputs, **NO_IMAGES, use_cache=False), cached)


@pytest.mark.parametrize(
    "method", [PAI(alpha=0.4, gamma=1), VAF(enhance=1.5), AdaptVis()], ids=["pai", "vaf", "adaptvis"]
)
def test_a_probe_and_editors_see_the_whole_prompt_behind_dropped_tokens(method: Method) -> None:
    case, model = BY_NAME["llava_next"].make_inputs(2, "left"), BY_NAME["llava_next"].model()
    seen: list[Tensor] = []
    original = TokenSelection.of.__func__

    def record(cls: Any, keep: Tensor, real: Tensor) -> TokenSelection:
        seen.append(keep)
        return original(cls, keep, real)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TokenSelection, "of", classmethod(record))
        with FastV(R=0.7).on(model), method.on(model), Dominance().on(model) as probe:
            ours = model.generate(**case.inputs, **NO_IMAGES, **RECORD)
    hide = Hide(~seen[0], 2)
    with attach(find_anatomy(model), editor=hide), method.on(model), Dominance().on(model) as other:
        plain = model.generate(**case.inputs, **NO_IMAGES, **RECORD)
    for a, b in zip(ours.logits, plain.logits, strict=True):
        assert torch.allclose(a, b, atol=2e-4)
    for a, b in zip(probe.result().samples, other.result().samples, strict=True):
        assert a.tokens == b.tokens
        for mine, theirs in zip(a.layers, b.layers, strict=True):
            assert mine.masses == pytest.approx(theirs.masses, abs=1e-4)


@pytest.mark.parametrize("queries", ["prompt", "all"])
def test_prompt_rows_behind_dropped_tokens(queries: Any) -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left", 2), BY_NAME["llava"].model()
    with torch.no_grad(), FastV(R=0.7).on(model), Dominance(queries=queries).on(model) as probe:
        model(**case.inputs)
    for sample in probe.result().samples:
        for layer in sample.layers:
            assert layer.masses["text"] + layer.masses["image"] == pytest.approx(
                1 if queries == "prompt" else layer_share(sample, layer), abs=1e-4
            )


def layer_share(sample: Any, layer: Any) -> float:
    """Rows that were dropped see nothing: with `all`, the mean over rows falls by their share."""
    if layer.layer < 2:
        return 1.0
    image, text = sample.tokens["image"], sample.tokens["text"]
    return (text + round(image * 0.3)) / (text + image)


def refused(call: Callable[[], Any], kind: type[SightlineError], words: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)
    assert str(caught.value).count(". ") == 0


@pytest.mark.parametrize("name", METHODS)
def test_a_prompt_without_an_image_is_refused(name: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(), BY_NAME["llava"].model()
    with METHODS[name].on(model):
        refused(lambda: model.generate(**text_alone(case, 0), **GREEDY), InputError, "this prompt has none")


@pytest.mark.parametrize(
    ("method", "family", "words"),
    [
        (VAF(layers=(9,)), "llava", "layers 0 to 3"),
        (AdaptVis(layers=(-1,)), "llava", "layers 0 to 3"),
        (FastV(K=4), "llava", "layers 0 to 3"),
        (FastV(K=0), "llava", "K is at least 1"),
        (FastV(), "gemma3", "attend to all positions"),
        (FastV(), "qwen3_5", "attend to all positions"),
        (FasterVLM(), "llama", "no vision tower"),
        (FasterVLM(), "idefics2", "resampler"),
        (FasterVLM(), "qwen2_5_vl", "windows"),
        (FasterVLM(layer=5), "llava", "2 attention layers"),
        (FasterVLM(), "chameleon", "computes its own"),
        (FastV(), "llama4", "attend to all positions"),
        (PAI(), "blip2", "inner language model"),
        (VCD(), "kosmos2", "inner language model"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_on_entry(method: Method, family: str, words: str) -> None:
    model = BY_NAME[family].model()
    state = state_of(model)
    refused(lambda: method.on(model).__enter__(), SightlineError, words)
    assert state_of(model) == state


@pytest.mark.parametrize(
    ("method", "family", "words"),
    [
        (FasterVLM(), "gemma3", "windows"),
        (FasterVLM(), "mistral3", "image tokens of Mistral3"),
        (FasterVLM(), "qwen3_vl_video", "this prompt has none"),
    ],
)
def test_what_does_not_fit_the_prompt_is_refused_and_leaves_nothing(method: Method, family: str, words: str) -> None:
    case, model = BY_NAME[family].make_inputs(), BY_NAME[family].model()
    model.generate(**case.inputs, **GREEDY)  # the library installs hooks of its own at the first pass
    state = state_of(model)
    with method.on(model):
        refused(lambda: model.generate(**case.inputs, **GREEDY), SightlineError, words)
    assert state_of(model) == state


@pytest.mark.parametrize("name", ["adaptvis", "fastv", "fastervlm"])
@pytest.mark.parametrize(
    ("option", "words"),
    [({"cache_implementation": "static"}, "static"), ({"prefill_chunk_size": 14}, "prefill_chunk_size")],
)
def test_static_caches_and_prompts_in_pieces_are_refused(name: str, option: dict[str, Any], words: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(), BY_NAME["llava"].model()
    with METHODS[name].on(model):
        refused(lambda: model.generate(**case.inputs, **GREEDY, **option), SightlineError, words)


@pytest.mark.parametrize(
    "spec", ["vaf:enhance=0", "adaptvis:threshold=2", "fastv:R=2", "fastervlm:r=1", "adaptvis:weak=0"]
)
def test_fields_out_of_range(spec: str) -> None:
    refused(lambda: parse_spec(spec), InputError, spec.split(":")[1].split("=")[0])


def test_two_droppers_are_refused() -> None:
    model = BY_NAME["llava"].model()
    with FastV().on(model):
        refused(lambda: FastV().on(model).__enter__(), InputError, "enter one of them")


@pytest.mark.parametrize("name", METHODS)
def test_forward_passes_and_positions_that_run(name: str) -> None:
    """Cost is counted, not timed: passes of the model, and positions that its last layer computes."""
    case, model = BY_NAME["llava"].make_inputs(), BY_NAME["llava"].model()
    passes: list[int] = []
    positions: list[int] = []
    handles = [
        model.register_forward_hook(lambda *_: passes.append(1)),
        find_anatomy(model)
        .layers[-1]
        .self_attn.o_proj.register_forward_hook(lambda m, a, o: positions.append(o.shape[1])),
    ]
    with METHODS[name].on(model):
        model.generate(**case.inputs, **NO_IMAGES)
    for handle in handles:
        handle.remove()
    length = case.inputs["input_ids"].shape[1]
    expected = dict.fromkeys(("pai", "vcd", "adaptvis"), STEPS + 1)  # the prompt twice, then both in one batch
    assert len(passes) == expected.get(name, STEPS)
    first = {"fastv": length - 5, "fastervlm": length - 5}
    assert positions[0] == first.get(name, length)
    assert positions[-1] == 1


def test_sign_traps() -> None:
    """A factor on scores of either sign: image keys with negative scores lose attention where the method gives it."""
    case, model = BY_NAME["llava"].make_inputs(), BY_NAME["llava"].model()
    lost = {}

    class Look:
        def begin(self, step: ForwardPass) -> None:
            pass

        def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
            last = torch.tensor([attention.call.queries - 1])
            image = torch.tensor(case.modality[0]) == 2
            before, after = EditedCall(attention.call).row_weights(last), attention.row_weights(last)
            lost[layer] = bool((after[..., image] < before[..., image]).any())
            self.gained = bool((after[..., image].sum(-1) >= before[..., image].sum(-1) - 1e-6).all())
            if isinstance(method, PAI):
                assert self.gained

        def end(self, step: ForwardPass) -> None:
            pass

    for method in (VAF(enhance=1.5, suppress=1), PAI(alpha=0.5, gamma=1), AdaptVis(threshold=0)):
        lost.clear()
        with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=Look()):
            model(**case.inputs)
        assert any(lost.values()) or isinstance(method, PAI)
