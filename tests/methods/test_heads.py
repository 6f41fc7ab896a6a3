"""SPIN, AD-HH and EAH: the weights that each layer uses equal the plain formula on its untouched weights."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, IMAGE, PADDING, VIDEO, Case
from methods.plain_decoding import GREEDY, RECORD
from sightline.attention import EditedCall, ForwardPass, attach
from sightline.errors import InputError
from sightline.methods.adhh import ADHH
from sightline.methods.base import Method, parse_spec
from sightline.methods.eah import EAH
from sightline.methods.spin import SPIN
from sightline.models.anatomy import find_anatomy

FAMILIES = ["llava", "qwen2_5_vl", "gemma3"]


class Seen:
    """What each layer's attention was, untouched and as the model used it: [batch, heads, rows, keys]."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, Tensor, Tensor, Tensor]] = []

    def begin(self, step: ForwardPass) -> None: ...

    def end(self, step: ForwardPass) -> None: ...

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        call = attention.call
        rows = torch.arange(call.queries)
        key = call.key.repeat_interleave(call.group_size, 1)[:, :, : call.keys]
        scores = torch.einsum("bhqd,bhkd->bhqk", call.query, key) * call.scaling
        before = EditedCall(call).row_weights(rows)
        self.calls.append((layer, call.first_key, scores, before, attention.row_weights(rows)))


def seen(method: Method, model: Any, case: Case) -> list[tuple[int, int, Tensor, Tensor, Tensor]]:
    reader = Seen()
    with torch.no_grad(), method.on(model), attach(find_anatomy(model), reader=reader):
        model.generate(**case.inputs, **GREEDY)
    return reader.calls


def image_of(case: Case, first: int) -> list[list[int]]:
    """Which keys are the image's, where a sliding window starts at position `first`."""
    places = [[at - first for at, kind in enumerate(row) if kind in (IMAGE, VIDEO)] for row in case.modality]
    return [[at for at in row if at >= 0] for row in places]


@pytest.mark.parametrize("family", FAMILIES)
def test_spin_turns_heads_down_that_look_away(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    for layer, first, scores, before, after in seen(SPIN(r=0.5, alpha=0.25, first_layer=1), model, case):
        expected = before.clone()
        heads = before.shape[1]
        for sample, image in enumerate(image_of(case, first)):
            visible = before[sample, :, -1] > 0
            z = [float((scores[sample, h, -1] * visible[h])[image].sum()) for h in range(heads)]
            least = sorted(range(heads), key=lambda h: z[h])[: heads - heads // 2]
            if layer >= 1 and bool(visible[:, image].any()):
                expected[sample, least, -1] *= 0.25
        assert torch.allclose(after, expected, atol=1e-6), layer


@pytest.mark.parametrize("family", FAMILIES)
def test_adhh_takes_the_text_from_heads_that_read_mostly_text(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    silenced = 0
    for layer, first, _, before, after in seen(ADHH(heads=("1.0", "1.3", "2.2"), threshold=0.3), model, case):
        expected = before.clone()
        for sample, image in enumerate(image_of(case, first)):
            for head in {1: (0, 3), 2: (2,)}.get(layer, ()):
                start = max(image, default=-1) + 1
                behind = before[sample, head, -1, start:]
                if behind.sum() >= 0.3:
                    silenced += 1
                    expected[sample, head, -1, start:] = 0
        assert torch.allclose(after, expected, atol=1e-6), layer
    assert silenced > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_eah_copies_the_head_that_reads_most_of_the_image(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left"), BY_NAME[family].model()
    threshold, changed = 0.06, 0
    for layer, _, _, before, after in seen(EAH(layer=1, threshold=threshold), model, case):
        expected = before.clone()
        length = len(case.modality[0])
        if layer == 1 and before.shape[2] == length:
            for sample, kinds in enumerate(case.modality):
                real = [at for at, kind in enumerate(kinds) if kind != PADDING]
                counts = []
                for head in range(before.shape[1]):
                    weights = before[sample, head]
                    image = image_of(case, 0)[sample]
                    means = [weights[[i for i in real if i > j], j].mean() for j in image]
                    counts.append(sum(bool(mean > threshold) for mean in means))
                best = max(range(len(counts)), key=lambda head: counts[head])
                changed += counts[best] > 0
                if counts[best]:
                    expected[sample][:, real] = before[sample, best][real].expand(before.shape[1], -1, -1)
        assert torch.allclose(after, expected, atol=1e-6), layer
    assert changed


class Outputs:
    """Holds each layer's output against its weights times its values."""

    def begin(self, step: ForwardPass) -> None: ...

    def end(self, step: ForwardPass) -> None: ...

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        call = attention.call
        value = call.value.repeat_interleave(call.group_size, 1)[:, :, : call.keys]
        weights = attention.row_weights(torch.arange(call.queries))
        real = weights.sum((1, 3)) > 0
        expected = torch.einsum("bhqk,bhkd->bqhd", weights, value)
        assert torch.allclose(attention.output()[real], expected[real], atol=1e-5), layer


@pytest.mark.parametrize(("family", "batch", "padding"), [("llava", 1, None), ("gemma3", 2, "left")])
@pytest.mark.parametrize(
    "specs",
    [
        *("adaptvis", "vaf", "eah:threshold=0.06", "adhh:heads=1.0+1.3,threshold=0.3"),
        *("spin:r=0.5", "spin:r=0.5,by=weights"),
        *("pai:gamma=1,first_layer=0 spin:r=0.5", "spin:r=0.5 pai:gamma=1,first_layer=0"),
    ],
)
def test_attention_that_nobody_reads_is_what_its_weights_come_to(
    specs: str, family: str, batch: int, padding: str | None
) -> None:
    case, model = BY_NAME[family].make_inputs(batch, padding), BY_NAME[family].model()
    with torch.no_grad(), ExitStack() as stack:
        plain = model.generate(**case.inputs, **GREEDY, **RECORD)
        for spec in specs.split():
            stack.enter_context(parse_spec(spec).on(model))  # type: ignore[union-attr]
        unread = model.generate(**case.inputs, **GREEDY, **RECORD)
        stack.enter_context(attach(find_anatomy(model), reader=Outputs()))
        read = model.generate(**case.inputs, **GREEDY, **RECORD)
    assert torch.allclose(torch.cat(unread.logits), torch.cat(read.logits), atol=1e-5)
    assert not torch.allclose(torch.cat(unread.logits), torch.cat(plain.logits), atol=1e-5)


def test_random_heads_are_as_many_and_the_same_every_time() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    first, again = (seen(SPIN(r=0.5, alpha=0.0, by="random"), model, case) for _ in range(2))
    for (*_, before, after), (*_, same) in zip(first, again, strict=True):
        assert torch.equal(after, same)
        silent = (after[0, :, -1] == 0).all(-1)
        assert silent.sum() == before.shape[1] // 2


def test_the_control_of_adhh_silences_as_many_other_heads() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    named = ("1.0", "1.3", "2.2")
    changed = {
        f"{layer}.{head}"
        for layer, _, _, before, after in seen(ADHH(heads=named, threshold=0.0, random=True), model, case)
        for head in range(before.shape[1])
        if not torch.equal(before[0, head], after[0, head])
    }
    assert len(changed) == len(named)
    assert not changed & set(named)


def test_the_control_of_eah_copies_another_head() -> None:
    case, model = BY_NAME["llava"].make_inputs(1, None), BY_NAME["llava"].model()
    copied = set()
    for seed in range(4):
        for layer, _, _, before, after in seen(EAH(layer=1, threshold=0.0, random=True, seed=seed), model, case):
            if layer == 1 and before.shape[2] > 1:
                copied |= {head for head in range(4) if torch.allclose(after[0, 0], before[0, head], atol=1e-6)}
    assert len(copied) > 1


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("adhh", "adhh needs the model's heads"),
        ("adhh:heads=1.9", "Head 1.9 is out of range in adhh: the model has heads 0 to 3"),
        ("adhh:heads=9.1", "Layer 9 is out of range in adhh"),
        ("adhh:heads=nine", "'nine' is no head in adhh: write layer.head, as 16.29"),
        ("spin:r=1.2", "r is 1.2 in spin: give a share from 0 to 1"),
        ("eah:layer=7", "Layer 7 is out of range in eah"),
    ],
)
def test_wrong_settings_are_refused(spec: str, sentence: str) -> None:
    def enter() -> None:
        with parse_spec(spec).on(BY_NAME["llava"].model()):  # type: ignore[union-attr]
            pass

    with pytest.raises(InputError, match=sentence):
        enter()
