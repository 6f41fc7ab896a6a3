"""PAI's attention part, VAF and AdaptVis: the weights of every row equal the plain formula, and the output follows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attention.plain import Rows
from families import FAMILIES, IMAGE, PADDING, VIDEO, Case, Family, str_of
from methods.plain_decoding import GREEDY
from sightline.attention import EditedCall, ForwardPass, attach
from sightline.methods.adaptvis import AdaptVis
from sightline.methods.base import Method
from sightline.methods.pai import PAI
from sightline.methods.vaf import VAF
from sightline.models.anatomy import find_anatomy

VISUAL_FAMILIES = [family for family in FAMILIES if family.modality in (IMAGE, VIDEO)]
SETTINGS = [(2, "left", 2), (2, "right", 1)]
METHODS: dict[str, Method] = {
    "pai": PAI(alpha=0.4, gamma=1, first_layer=1),
    "vaf": VAF(enhance=1.5, suppress=0.7),
    "adaptvis": AdaptVis(threshold=0.5),
}
LAYERS = {
    "pai": lambda depth: range(1, depth),
    "vaf": lambda depth: (2, 3) if depth == 6 else (1, 2),
    "adaptvis": range,
}


class Plain(Rows):
    """Keeps the weights with and without the edits, and the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.untouched: list[dict[int, Tensor]] = []
        self.outputs: list[dict[int, Tensor]] = []

    def begin(self, step: ForwardPass) -> None:
        super().begin(step)
        self.untouched.append({})
        self.outputs.append({})

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        super().read(layer, attention, step)
        bare = EditedCall(attention.call)
        self.untouched[-1][layer] = bare.row_weights(torch.arange(attention.call.queries))
        self.outputs[-1][layer] = attention.output()


def factors(name: str, case: Case, keys: int, rows: list[int], confidence: list[float]) -> Tensor:
    """[batch, rows, keys]: what the scores are multiplied with; for PAI what |score| is."""
    table = torch.zeros(len(case.modality), len(rows), keys) if name == "pai" else None
    table = torch.ones(len(case.modality), len(rows), keys) if table is None else table
    for sample, kinds in enumerate(case.modality):
        image = [place for place, kind in enumerate(kinds) if kind in (IMAGE, VIDEO)]
        end = max(place for place, kind in enumerate(kinds) if kind != PADDING)
        for index, row in enumerate(rows):
            if name == "pai" and row >= end:
                table[sample, index, image] = 0.4
            if name == "vaf" and row > image[-1]:
                table[sample, index, image] = 1.5
                before = [place for place in range(image[0]) if kinds[place] != PADDING]
                table[sample, index, before] = 0.7
            if name == "adaptvis" and row == end:
                table[sample, index, image] = 1.5 if confidence[sample] >= 0.5 else 0.5
    return table


def expected(name: str, call: Any, factor: Tensor) -> Tensor:
    """Weights from scores written out: no blocks, no groups of heads."""
    key = call.key[:, :, : call.keys].repeat_interleave(call.group_size, 1)
    scores = torch.einsum("bhqd,bhkd->bhqk", call.query.float(), key.float()) * call.scaling
    if call.options.get("softcap") is not None:
        scores = torch.tanh(scores / call.options["softcap"]) * call.options["softcap"]
    factor = factor[:, None]
    scores = scores + factor * scores.abs() if name == "pai" else scores * factor
    hidden = ~call.visible(torch.arange(call.queries))
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), -1)


def confidences(model: Any, case: Case) -> list[float]:
    with torch.no_grad():
        logits = model(**case.inputs).logits.float().softmax(-1).amax(-1)
    ends = [max(place for place, kind in enumerate(kinds) if kind != PADDING) for kinds in case.modality]
    return [float(logits[sample, end]) for sample, end in enumerate(ends)]


def check(name: str, model: Any, case: Case, reader: Plain, layers: Any) -> None:
    confidence = confidences(model, case) if name == "adaptvis" else []
    length = len(case.modality[0])
    for number, weights in enumerate(reader.steps):
        for layer, ours in weights.items():
            attention = reader.calls[number][layer]
            call = attention.call
            if layer not in layers:
                assert not attention.edits
                continue
            rows = [call.offset + row for row in range(call.queries)]
            first = call.first_key
            factor = factors(name, case, length + number, rows, confidence)[:, :, first : first + call.keys]
            plain = expected(name, call, factor)
            real = torch.tensor([[row >= length or kinds[row] != PADDING for row in rows] for kinds in case.modality])
            difference = (ours - plain).abs().amax((1, 3))[real].max()
            assert difference < 1e-5, f"step {number}, layer {layer}: {difference}"
            value = call.value[:, :, : call.keys].repeat_interleave(call.group_size, 1).float()
            output = torch.einsum("bhqk,bhkd->bqhd", plain, value)
            assert (reader.outputs[number][layer] - output)[real].abs().max() < 1e-5


@pytest.mark.parametrize(("batch", "padding", "images"), SETTINGS)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", VISUAL_FAMILIES, ids=str_of)
def test_weights_equal_the_formula(family: Family, name: str, batch: int, padding: str | None, images: int) -> None:
    case, model = family.make_inputs(batch, padding, images), family.model()
    anatomy, reader = find_anatomy(model), Plain()
    layers = [layer for layer in LAYERS[name](len(anatomy.layers)) if layer in anatomy.attention_layers]
    with torch.no_grad(), METHODS[name].on(model), attach(anatomy, reader=reader):
        if padding == "right":
            model(**case.inputs)
        else:
            model.generate(**case.inputs, **{**GREEDY, "max_new_tokens": 2})
    assert len(reader.steps) == (1 if padding == "right" else 2)
    check(name, model, case, reader, layers)
