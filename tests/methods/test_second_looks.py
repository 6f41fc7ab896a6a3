"""AvisC, SID, ONLY, MemVR, Steer, VTI and ProjectAway equal what one would do by hand."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline as sl
from attention.plain import eager_twin
from families import BY_NAME, IMAGE, PADDING, VIDEO, Case
from methods.plain_decoding import GREEDY, RECORD, STEPS, contrasted, grown, last_logits
from sightline.attention import AttentionCall, Block, Edit, EditedCall, ForwardPass, attach
from sightline.errors import InputError
from sightline.methods.avisc import AvisC
from sightline.methods.base import Method
from sightline.methods.directions import find_direction, read_direction
from sightline.methods.memvr import MemVR
from sightline.methods.only import ONLY
from sightline.methods.projectaway import ProjectAway
from sightline.methods.sid import SID
from sightline.methods.steer import VTI, Steer
from sightline.models.anatomy import find_anatomy
from support.plain_readings import hooked, last_rows, read_out, states

FAMILIES = ["llava", "qwen2_5_vl", "llava_next"]


def answered(method: Method, model: Any, case: Case) -> tuple[Any, Tensor]:
    with torch.no_grad(), method.on(model):
        output = model.generate(**case.inputs, **GREEDY, **RECORD)
    return output, output.sequences[:, -STEPS:]


def agree(scores: Tensor, expected: Tensor) -> bool:
    known = scores.isfinite() & expected.isfinite()
    return bool(known.any(-1).all()) and torch.allclose(scores[known].double(), expected[known].double(), atol=5e-4)


def images(case: Case) -> list[list[int]]:
    return [[at for at, kind in enumerate(row) if kind in (IMAGE, VIDEO)] for row in case.modality]


@pytest.mark.parametrize("family", FAMILIES)
def test_avisc_keeps_blind_tokens_alone(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    output, tokens = answered(AvisC(alpha=0.7, gamma=0.5, lam=0.3), model, case)
    rows = last_rows(model, case.inputs).weights
    silent = torch.zeros(len(case.modality), len(case.modality[0]), dtype=torch.bool)
    for sample, image in enumerate(images(case)):
        weights = {layer: rows[layer][sample].mean(0)[image] for layer in rows}
        order = sorted(weights, key=lambda layer: -float(weights[layer].sum()))
        total, held, chosen = sum(float(w.sum()) for w in weights.values()), 0.0, []
        for layer in order:
            chosen.append(layer)
            held += float(weights[layer].sum()) / total
            if held >= 0.5:
                break
        m = torch.stack([weights[layer] for layer in chosen]).mean(0)
        silent[sample, [at for at, value in zip(image, m, strict=True) if value < m.mean() + 0.3 * m.std()]] = True

    def mute(module: Any, args: Any, kwargs: Any) -> Any:
        embeds = kwargs["inputs_embeds"].clone()
        embeds[:, : silent.shape[1]][silent] = 0
        return args, {**kwargs, "inputs_embeds": embeds}

    for step in range(STEPS):
        handle = find_anatomy(model).decoder.register_forward_pre_hook(mute, with_kwargs=True)
        second = last_logits(model, case.inputs, tokens[:, :step])
        handle.remove()
        assert agree(output.scores[step], contrasted(output.logits[step], second, 0.7, 0.1))


class LeastSeen:
    """From layer 2 on: the prompt's rows see what its last row left in layer 1, a generated row what it left itself."""

    def __init__(self, case: Case, keep: int) -> None:
        self.images, self.prompt, self.keep = images(case), len(case.modality[0]), keep
        self.hidden = torch.zeros(0)

    def begin(self, step: ForwardPass) -> None: ...

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        if layer == 1:
            weights = EditedCall(call).row_weights(torch.arange(call.queries)).mean(1)
            self.hidden = torch.zeros(len(self.images), call.queries, call.keys, dtype=torch.bool)
            for sample, image in enumerate(self.images):
                for row in range(call.queries):
                    says = weights[sample, max(row, self.prompt - 1)]
                    self.hidden[sample, row, sorted(image, key=lambda at: float(says[at]))[self.keep :]] = True

        def hide(block: Block) -> Tensor:
            seen = block.values.masked_fill(self.hidden[:, None, block.rows], float("-inf"))
            return torch.where(seen.isfinite().any(-1, keepdim=True), seen, block.values)

        return None if layer < 2 else Edit(torch.arange(call.queries), scores=hide)


@pytest.mark.parametrize("family", [*FAMILIES, "gemma3"])
def test_sid_shows_the_least_attended_anew_at_every_token(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    output, tokens = answered(SID(alpha=0.7, K=2, keep=3), model, case)
    for step in range(STEPS):
        with attach(find_anatomy(model), editor=LeastSeen(case, 3)):
            second = last_logits(model, case.inputs, tokens[:, :step])
        assert agree(output.scores[step], contrasted(output.logits[step], second, 0.7, 0.1))


def test_sid_hides_tokens_from_eager_attention_too() -> None:
    case, model = BY_NAME["llava"].make_inputs(2, "left"), BY_NAME["llava"].model()
    (plain, tokens), (eager, same) = (answered(SID(keep=3), each, case) for each in (model, eager_twin(model)))
    assert torch.equal(tokens, same)
    assert all(map(agree, plain.scores, eager.scores))


@pytest.mark.parametrize(("first", "sentence"), [(0, "K is at least 1"), (9, "Layer 9 is out of range in sid")])
def test_sid_needs_a_layer_to_choose_by(first: int, sentence: str) -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    with SID(K=first).on(model), pytest.raises(InputError, match=sentence):
        model.generate(**case.inputs, **GREEDY)


def entropy(values: list[float]) -> float:
    total = sum(values)
    return -sum(value / total * math.log(value / total + 1e-6) for value in values)


def without_peaks(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return [0.0 if value > mean + deviation else value for value in values]


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_only_answers_from_text_heads_in_one_layer_more(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    anatomy = find_anatomy(model)
    output, tokens = answered(ONLY(threshold=0.35), model, case)
    distances = []
    for step in range(STEPS):
        inputs = grown(case.inputs, tokens[:, :step])
        logits, hidden = states(model, inputs)
        read = last_rows(model, inputs)
        values = read.calls[0].value.repeat_interleave(read.calls[0].group_size, 1)
        for sample, image in enumerate(images(case)):
            kinds = case.modality[sample]
            start = sum(kind == PADDING for kind in kinds)
            width = read.weights[0].shape[-1]
            text = [at for at in range(start + 1, width) if at not in image]
            heads = []
            for head, weights in enumerate(read.weights[0][sample]):
                changed = weights.clone()
                ours = without_peaks(weights[text].tolist())
                theirs = without_peaks(weights[image].tolist())
                changed[text], changed[image] = torch.tensor(ours), torch.tensor(theirs)
                heads.append((entropy(ours) / entropy(theirs), changed @ values[sample, head]))
            mean = sum(ratio for ratio, _ in heads) / len(heads)
            out = torch.cat([part if ratio >= mean else torch.zeros_like(part) for ratio, part in heads])
            layer: Any = anatomy.layers[-1]
            with torch.no_grad():
                b = anatomy.attentions[0].o_proj(out)  # type: ignore[union-attr, operator]
                g = 0.2 * hidden[len(anatomy.layers) - 1][sample] + layer.input_layernorm(b)
                g = g + layer.mlp(layer.post_attention_layernorm(g))
                # The head is linear, so that half of the model's own answer is half of its logits.
                text_logits = read_out(model, g) + 0.5 * logits[sample]
            p, q = logits[sample].softmax(-1), text_logits.softmax(-1)
            distances.append(float((p - q).abs().sum()))
            near = distances[-1] < 0.35
            expected = logits[sample] + 3 * text_logits if near else 2 * logits[sample] - text_logits
            expected[p < 0.1 * p.max()] = -torch.inf
            assert agree(output.scores[step][sample : sample + 1], expected[None])
    assert distances


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_memvr_shows_the_image_to_the_next_feed_forward_part(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    anatomy = find_anatomy(model)
    method = MemVR(r=0.4, threshold=0.9, first_layer=0, last_layer=2)
    output, tokens = answered(method, model, case)
    features: list[Tensor] = []
    handle = anatomy.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: features.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**case.inputs)
    handle.remove()
    # On a cache, a generated token's pass has a trigger of its own, which a pass over the whole has not.
    logits, shown = states_with(model, case, tokens, features[0], 0, method)
    assert agree(output.scores[0], logits)
    assert shown


def states_with(
    model: Any, case: Case, tokens: Tensor, features: Tensor, step: int, method: MemVR
) -> tuple[Tensor, int]:
    """The logits of a prompt whose feed-forward parts are shown the image, and how many rows were."""
    anatomy = find_anatomy(model)
    rows = len(case.modality)
    done, due, shown = [False] * rows, [False] * rows, 0

    def look(module: Any, args: Any, output: Any) -> None:
        state = output if isinstance(output, Tensor) else output[0]
        for row in range(rows):
            p = read_out(model, state[row, -1]).softmax(-1).topk(10).values
            p = p / p.sum()
            u = -float((p * p.log()).sum()) / math.log(10)
            due[row] = u > 0.9 and not done[row]
            done[row] = done[row] or due[row]

    def show(module: Any, args: Any, output: Tensor) -> Tensor:
        nonlocal shown
        changed = output.clone()
        for row in range(rows):
            if due[row]:
                shown += 1
                v = features[row, images(case)[row]]
                start = sum(kind == PADDING for kind in case.modality[row])
                again = args[0][row] @ v.T @ v
                c = output[row, start:].abs().mean() / again[start:].abs().mean()
                changed[row] = 0.6 * output[row] + 0.4 * c * again
        return changed

    pairs = [(anatomy.layers[layer], look) for layer in (0, 1, 2)]
    pairs += [(anatomy.layers[layer + 1].mlp, show) for layer in (0, 1, 2)]
    with hooked(*pairs):
        logits, _ = states(model, grown(case.inputs, tokens[:, :step]))
    return logits, shown


def test_a_direction_is_the_mean_difference_and_bound_to_the_weights(tmp_path: Path) -> None:
    model = BY_NAME["llava"].model()
    anatomy = find_anatomy(model)
    pairs = [(BY_NAME["llava"].make_inputs(1, None, 1).inputs, BY_NAME["llava"].make_inputs(1, None, 2).inputs)] * 2
    text = {"input_ids": torch.tensor([[1, 5, 9, 33]])}
    other = {"input_ids": torch.tensor([[1, 7, 9, 34]])}
    found = find_direction(model, [(text, other), *pairs[:1]])
    last: list[Tensor] = []
    hooks = [(layer, lambda module, args, output: last.append(output if isinstance(output, Tensor) else output[0]))
             for layer in anatomy.layers]  # fmt: skip
    with hooked(*hooks), torch.no_grad():
        for inputs in (text, other, *pairs[0]):
            model(**inputs)
    a, b, c, d = (torch.stack([state[0, -1] for state in last[4 * n : 4 * n + 4]]) for n in range(4))
    assert torch.allclose(found.values, (a - b + c - d) / 2, atol=1e-5)
    file = tmp_path / "direction.safetensors"
    found.save(file)
    assert torch.equal(read_direction(file).values, found.values)
    case = BY_NAME["llava"].make_inputs(1, None)
    with torch.no_grad(), Steer(str(file), strength=0.5, layers=(1, 2)).on(model):
        steered = model(**case.inputs).logits
    unit = torch.nn.functional.normalize(found.values, dim=-1)

    def turn(layer: int) -> Any:
        def hook(module: Any, args: Any, x: Tensor) -> Tensor:
            new = x / x.norm(dim=-1, keepdim=True) + 0.5 * unit[layer]
            return x.norm(dim=-1, keepdim=True) * new / new.norm(dim=-1, keepdim=True)

        return hook

    with hooked(*[(anatomy.layers[layer].mlp, turn(layer)) for layer in (1, 2)]), torch.no_grad():
        assert torch.allclose(steered, model(**case.inputs).logits, atol=1e-5)
    elsewhere = BY_NAME["qwen2_vl"].model()
    with pytest.raises(InputError, match="was found in other weights"), Steer(str(file)).on(elsewhere):
        pass
    with pytest.raises(InputError, match="steer needs a direction"):
        Steer().require_complete()
    (tmp_path / "no.txt").write_text("no")
    with pytest.raises(InputError, match="holds no direction"), Steer(str(tmp_path / "no.txt")).on(model):
        pass


def test_a_direction_is_found_in_texts_without_an_image() -> None:
    vlm = sl.load("tiny-llava")
    texts = ("a red circle", "a blue circle")
    inputs = [vlm.encode(sl.Sample(prompt=text), allow_text_only=True) for text in texts]
    found, expected = (find_direction(vlm, [pair]).values for pair in (texts, tuple(inputs)))
    torch.testing.assert_close(found, expected)


def test_pca_adds_the_axis_of_all_states_in_one_row() -> None:
    model = BY_NAME["llava"].model()
    texts = [{"input_ids": torch.tensor([[1, 5 + n, 9, 33 + n]])} for n in range(4)]
    pairs = list(zip(texts[1:], [texts[0]] * 3, strict=True))
    with torch.no_grad():  # from the embedding to the last layer, which the library gives behind the final norm
        behind = [torch.cat([h[0, -1] for h in model(**one, output_hidden_states=True).hidden_states]) for one in texts]
    rows = torch.stack(behind[1:]) - behind[0]
    centred = rows - rows.mean(0)
    axis = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    shares = centred @ axis
    axis = axis * shares[shares.abs().argmax()].sign()
    found = find_direction(model, pairs, kind="pca").values
    expected = (rows.mean(0) + axis).reshape(len(found) + 1, -1)[1:]
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_direction_of_each_patch_turns_pictures_of_its_size_alone(tmp_path: Path) -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    dark = {**case.inputs, "pixel_values": torch.zeros_like(case.inputs["pixel_values"])}
    pale = {**case.inputs, "pixel_values": 0.3 * case.inputs["pixel_values"]}
    each = find_direction(model, [([dark, pale], case.inputs)], part="tower", each_patch=True)
    apart = [find_direction(model, [(one, case.inputs)], part="tower").values for one in (dark, pale)]
    assert torch.allclose(each.values.mean(1), (apart[0] + apart[1]) / 2, atol=1e-5)
    file = tmp_path / "tower.safetensors"
    each.save(file)
    with torch.no_grad():
        plain = model(**case.inputs).logits
        with VTI(vision=str(file)).on(model):
            assert not torch.equal(model(**case.inputs).logits, plain)
    replace(each, values=each.values[:, 1:].contiguous()).save(file)
    with (
        torch.no_grad(),
        VTI(vision=str(file)).on(model),
        pytest.raises(InputError, match=r"find it without each_patch"),
    ):
        model(**case.inputs)
    with pytest.raises(InputError, match="each_patch is of the vision tower"):
        find_direction(model, [(dark, pale)], each_patch=True)


def test_vti_steers_decoder_and_tower(tmp_path: Path) -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    dark = {**case.inputs, "pixel_values": torch.zeros_like(case.inputs["pixel_values"])}
    files = {}
    for part in ("text", "tower"):
        found = find_direction(model, [(case.inputs, dark)], part=part)  # type: ignore[arg-type]
        files[part] = str(tmp_path / f"{part}.safetensors")
        found.save(files[part])

    def logits(method: Method) -> Tensor:
        with torch.no_grad(), method.on(model):
            return model(**case.inputs).logits[:, -1]

    both, text = logits(VTI(files["text"], files["tower"])), logits(VTI(files["text"]))
    vision = logits(VTI(vision=files["tower"]))
    assert torch.equal(text, logits(Steer(files["text"], strength=0.09)))
    assert torch.equal(vision, logits(Steer(files["tower"], strength=0.09)))
    with ExitStack() as stack:
        stack.enter_context(Steer(files["text"], strength=0.09).on(model))
        assert torch.equal(both, logits(Steer(files["tower"], strength=0.09)))
    assert not torch.equal(both, logits(VTI(files["text"], files["tower"], random=True)))
    with pytest.raises(InputError, match="is of the vision tower, and the field text of vti takes one of the decoder"):
        logits(VTI(text=files["tower"]))


@pytest.mark.parametrize("family", FAMILIES)
def test_projectaway_takes_a_word_out_of_the_image(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    anatomy = find_anatomy(model)
    output, tokens = answered(ProjectAway(tokens=(33, 40), weight=1.5, layer=2, text_layer=3), model, case)
    bos = sorted(anatomy.bos_token_ids)[:1]
    words = []
    for token in (33, 40):
        with torch.no_grad():
            state = model(input_ids=torch.tensor([[*bos, token]]), output_hidden_states=True).hidden_states[3]
        words.append(torch.nn.functional.normalize(state[0, -1], dim=-1))

    def erase(module: Any, args: Any, out: Any) -> Any:
        state = (out if isinstance(out, Tensor) else out[0]).clone()
        for sample, image in enumerate(images(case)):
            for at in image:
                for t in words:
                    state[sample, at] -= 1.5 * max(0.0, float(state[sample, at] @ t)) * t
        return state if isinstance(out, Tensor) else (state, *out[1:])

    for step in range(STEPS):
        with hooked((anatomy.layers[1], erase)):
            assert torch.allclose(last_logits(model, case.inputs, tokens[:, :step]), output.logits[step], atol=5e-4)
