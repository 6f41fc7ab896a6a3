"""FastV: the right tokens are dropped, and the layers behind answer as if these were hidden from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attention.plain import Rows
from families import BY_NAME, IMAGE, VIDEO
from methods.plain_decoding import GREEDY, RECORD
from sightline.attention import attach
from sightline.methods.fastv import FastV
from sightline.methods.shorten import TokenSelection
from sightline.models.anatomy import find_anatomy
from support.hiding import Hide

NAMES = ["llava", "llava_next", "llava_onevision_video", "internvl", "paligemma", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
NAMES += ["idefics3", "idefics2", "pixtral", "mistral3"]
SETTINGS = [(1, None, 1), (2, "left", 2)]


MORE = ["ovis2", "glm4v", "deepseek_vl", "video_llama_3", "janus", "chameleon", "aria", "kosmos2", "blip2"]
MORE += ["qwen3_omni_moe_thinker", "llava_with_class_token", "lighton_ocr"]
CASES = [(family, *setting) for family in NAMES for setting in SETTINGS] + [(family, 2, "left", 1) for family in MORE]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The [batch, positions] masks of what stays, as they are made."""
    seen: list[Tensor] = []
    original = TokenSelection.of.__func__

    def of(cls: Any, keep: Tensor, present: Tensor) -> TokenSelection:
        seen.append(keep)
        return original(cls, keep, present)

    monkeypatch.setattr(TokenSelection, "of", classmethod(of))
    return seen


@pytest.mark.parametrize(("family", "batch", "padding", "images"), CASES)
def test_generation_equals_hiding(
    family: str, batch: int, padding: str | None, images: int, kept: list[Tensor]
) -> None:
    case, model = BY_NAME[family].make_inputs(batch, padding, images), BY_NAME[family].model()
    options = {**GREEDY, **RECORD, "suppress_tokens": [120, 121]}
    before = Rows()
    with attach(find_anatomy(model), reader=before):
        model.generate(**case.inputs, **{**GREEDY, "max_new_tokens": 1})
    # Qwen3-VL adds image features up to its second layer: behind dropped tokens, too.
    first = 1 if family == "qwen3_vl" else 2
    with FastV(K=first, R=0.6).on(model):
        output = model.generate(**case.inputs, **options)
    (keep,) = kept
    with attach(find_anatomy(model), editor=Hide(~keep, first)):
        plain = model.generate(**case.inputs, **options)
    for ours, theirs in zip(output.logits, plain.logits, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4), (ours - theirs).abs().max()
    assert torch.equal(output.sequences, plain.sequences)
    # Dropped: the least attended by the last token of the prompt in the layer before.
    scores = before.steps[0][first - 1].mean(1)[:, -1]
    for sample, kinds in enumerate(case.modality):
        image = torch.tensor([kind in (IMAGE, VIDEO) for kind in kinds])
        dropped = image & ~keep[sample]
        assert int(dropped.sum()) == int(image.sum()) - round(int(image.sum()) * 0.4)
        assert scores[sample][dropped].max() <= scores[sample][image & keep[sample]].min()
        assert keep[sample][~image].all()
