"""Models on FlashAttention 2 and FlexAttention: what is read is what the kernel made its output of.

No GPU here: the kernels are plain PyTorch, and everything around them Transformers' own (support/kernels.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attention.plain import GENERATE, TOLERANCE, Rows, real_rows
from families import BY_NAME
from sightline import PAI, Dominance, ModelError
from sightline.attention import AttentionCall, EditedCall, ForwardPass, attach
from sightline.attention.row_buffer import RowBuffer
from sightline.models.anatomy import find_anatomy
from support.kernels import on_flash_attention, on_flex_attention

KERNELS = [on_flash_attention, on_flex_attention]
ALIKE, LEFT, RIGHT = (1, None), (2, "left"), (2, "right")
CASES = [
    *[
        (on_flash_attention, name, batch)
        for name in ("llava", "qwen2_5_vl", "gemma2", "mistral")
        for batch in (ALIKE, LEFT)
    ],
    (on_flash_attention, "llava", RIGHT),
    (on_flex_attention, "llava", LEFT),
    (on_flex_attention, "gemma2", ALIKE),
    (on_flex_attention, "qwen2_5_vl", RIGHT),
]


def computed_by(call: AttentionCall, weights: Tensor) -> Tensor:
    """What these weights make of the values: [batch, queries, heads, width]."""
    values = call.value[:, :, : call.keys].repeat_interleave(call.group_size, 1)
    return (weights @ values).transpose(1, 2)


@pytest.mark.parametrize(("kernel", "name", "batch"), CASES)
def test_the_weights_that_are_read_make_the_kernels_output(
    kernel: Callable[..., Any], name: str, batch: tuple[int, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = BY_NAME[name].make_inputs(*batch)
    model, reader = kernel(BY_NAME[name].model(), monkeypatch), Rows()
    with torch.no_grad():
        plain = model.generate(**case.inputs, **GENERATE)
        with attach(find_anatomy(model), reader=reader):
            assert torch.equal(model.generate(**case.inputs, **GENERATE), plain)
    assert len(reader.steps) == GENERATE["max_new_tokens"]
    for number, step in enumerate(reader.steps):
        for layer, weights in step.items():
            call = reader.calls[number][layer].call
            assert call.implementation == model.config.get_text_config()._attn_implementation
            real = (
                torch.ones(call.query.shape[0], call.queries, dtype=torch.bool) if number else real_rows(case.modality)
            )
            difference = (computed_by(call, weights) - call.run()).abs().amax((2, 3))[real]
            assert float(difference.max()) < TOLERANCE, f"step {number}, layer {layer}"


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("method", [None, PAI(gamma=1.0)], ids=["plain", "pai"])
def test_figures_and_tokens_are_those_of_sdpa(
    method: PAI | None, kernel: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = BY_NAME["llava"].make_inputs(batch=2, padding="left")
    found = []
    for model in (BY_NAME["llava"].model(), kernel(BY_NAME["llava"].model(), monkeypatch)):
        with Dominance(queries="generated").on(model) as probe:
            if method is None:
                tokens = model.generate(**case.inputs, **GENERATE)
            else:
                with method.on(model):
                    tokens = model.generate(**case.inputs, **GENERATE)
        masses = [[layer.masses["image"] for layer in sample.layers] for sample in probe.result().samples]
        found.append((tokens, torch.tensor(masses)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1], atol=TOLERANCE)


class LastRow:
    """A reader that keeps the last row as a decoding step's is kept: its weights, by layer."""

    def __init__(self) -> None:
        self.buffer, self.weights = RowBuffer(self.take), dict[int, Tensor]()

    def take(self, layer: int, attention: EditedCall, rows: Tensor, steps: list[int]) -> None:
        self.weights[layer] = attention.row_weights(rows)

    def begin(self, step: ForwardPass) -> None:
        self.buffer.begin(step)

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        self.buffer.keep(layer, attention, step, 0)

    def end(self, step: ForwardPass) -> None:
        self.buffer.flush()


@pytest.mark.parametrize("given", ["positions", "lengths"])
def test_packed_sequences_see_their_own_keys_alone(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = on_flash_attention(BY_NAME["llama"].model(), monkeypatch)
    ids = torch.randint(10, 100, (1, 9), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    ends = torch.tensor([0, 4, 9], dtype=torch.int32)
    lengths: dict[str, Any] = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": 5, "max_length_k": 5}
    reader, last = Rows(), LastRow()
    with torch.no_grad(), attach(find_anatomy(model), reader=reader), attach(find_anatomy(model), reader=last):
        model(input_ids=ids, position_ids=positions, **(lengths if given == "lengths" else {}))
    for layer, weights in reader.steps[0].items():
        call = reader.calls[0][layer].call
        assert call.mask is None
        assert torch.allclose(computed_by(call, weights), call.run(), atol=TOLERANCE)
        assert float(weights[:, :, 4:, :4].abs().max()) == 0
        assert torch.allclose(last.weights[layer], weights[:, :, -1:], atol=TOLERANCE)
    if given == "lengths":
        with pytest.raises(ModelError, match="one row without a cache"):
            replace(call, query=call.query[:, :, 8:], offset=8).visible(torch.tensor([0]))
