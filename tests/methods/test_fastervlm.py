"""FasterVLM: the right tokens are kept, and the model then answers as one that never had the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from families import BY_NAME, IMAGE, PADDING, Case
from methods.plain_decoding import GREEDY, RECORD, STEPS, grown
from sightline.methods.fastervlm import FasterVLM
from sightline.methods.shorten import TokenSelection
from sightline.probes.dominance import Dominance
from support.families.core import IMAGE_ID

pytestmark = pytest.mark.filterwarnings("ignore:fastervlm.*this vision tower")

OPTIONS = {**GREEDY, **RECORD, "suppress_tokens": [IMAGE_ID]}
NAMES = ["llava", "vipllava", "video_llava", "llava_next", "llava_onevision", "internvl", "paligemma", "qwen2_vl"]
NAMES += ["qwen3_vl", "idefics3", "smolvlm", "pixtral"]
MROPE = {"qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "qwen3_omni_moe_thinker"}
SETTINGS = [(1, None, 1), (2, "left", 2)]


MORE = ["ovis2", "glm4v", "deepseek_vl", "qwen3_vl_moe", "qwen3_omni_moe_thinker", "llava_with_class_token"]
CASES = [(family, *setting) for family in NAMES for setting in SETTINGS] + [(family, 2, "left", 1) for family in MORE]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The [batch, positions] masks of what stays, as they are made."""
    seen: list[Tensor] = []
    original = TokenSelection.of.__func__

    def of(cls: Any, keep: Tensor, present: Tensor) -> TokenSelection:
        seen.append(keep & present)
        return original(cls, keep, present)

    monkeypatch.setattr(TokenSelection, "of", classmethod(of))
    return seen


def hidden_logits(family: str, model: Any, case: Case, keep: Tensor, tokens: Tensor) -> Tensor:
    """The whole prompt, what is dropped hidden as padding is, the positions of what stays as the method wants them."""
    longer = grown(case.inputs, tokens)
    mask = torch.cat([keep, torch.ones_like(tokens).bool()], 1).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    if family in MROPE:
        owner = model.model if hasattr(model.model, "get_rope_index") else model
        positions, _ = owner.get_rope_index(**{k: v for k, v in longer.items() if k != "pixel_values"})
    if family == "paligemma":
        positions = positions + 1
    with torch.no_grad():
        if family == "paligemma":
            longer["token_type_ids"][:, -tokens.shape[1] :] = 1 if tokens.shape[1] else 0
        return model(**{**longer, "attention_mask": mask}, position_ids=positions, use_cache=False).logits[:, -1]


@pytest.mark.parametrize(("family", "batch", "padding", "images"), CASES)
def test_generation_equals_hiding(
    family: str, batch: int, padding: str | None, images: int, kept: list[Tensor]
) -> None:
    case, model = BY_NAME[family].make_inputs(batch, padding, images), BY_NAME[family].model()
    with FasterVLM(r=0.6).on(model), Dominance().on(model) as probe:
        output = model.generate(**case.inputs, **OPTIONS)
    tokens = output.sequences[:, -STEPS:]
    (keep,) = kept
    # Run on the whole sequence these two read generated tokens otherwise: as a prefix, and as markers of an image.
    steps = 1 if family in ("paligemma", "ovis2") else STEPS
    for step in range(steps):
        plain = hidden_logits(family, model, case, keep, tokens[:, :step])
        assert torch.allclose(output.logits[step], plain, atol=1e-4), (step, (output.logits[step] - plain).abs().max())
    counts = [sample.tokens["image"] for sample in probe.result().samples]
    image = torch.tensor(case.modality) == IMAGE
    assert counts == (keep & image).sum(1).tolist()
    # Text stays, all of it.
    assert torch.equal(keep | image, (torch.tensor(case.modality) != PADDING) | image)


def tower_weights(tower: Any, pixels: Tensor) -> Tensor:
    """[crops, heads, patches (and class token), same] of the tower's layer -2, by its own eager attention."""
    tower.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            return tower(pixel_values=pixels, output_attentions=True).attentions[-2]
    finally:
        tower.set_attn_implementation("sdpa")


@pytest.mark.parametrize("r", [0.25, 0.6, 0.95])
@pytest.mark.parametrize(
    ("family", "is_class_first", "merge"),
    [("llava", True, 1), ("paligemma", False, 1), ("internvl", True, 2), ("idefics3", False, 2)],
)
def test_kept_tokens_are_the_most_attended(
    family: str, is_class_first: bool, merge: int, r: float, kept: list[Tensor]
) -> None:
    case, model = BY_NAME[family].make_inputs(2, "left", 2), BY_NAME[family].model()
    pixels = case.inputs["pixel_values"]
    if pixels.dim() == 5:  # stacks are filled up with tiles of zeros, which the model leaves out
        pixels = pixels.flatten(0, 1)
        pixels = pixels[pixels.flatten(1).any(1)]
    tower = model.model.vision_tower if hasattr(model.model, "vision_tower") else model.model.vision_model
    weights = tower_weights(tower, pixels).mean(1)
    scores = weights[:, 0, 1:] if is_class_first else weights.mean(1)
    side = int(scores.shape[1] ** 0.5)
    if merge > 1:
        scores = torch.nn.functional.avg_pool2d(scores.reshape(-1, 1, side, side), merge).flatten(1)
    count = max(1, round(scores.shape[1] * (1 - r)))
    threshold = scores.sort(1, descending=True).values[:, count - 1 : count]
    with torch.no_grad(), FasterVLM(r=r).on(model):
        model(**case.inputs)
    image = torch.tensor(case.modality) == IMAGE
    assert torch.equal(kept[0][image], (scores >= threshold).flatten())
