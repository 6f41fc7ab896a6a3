"""Models whose attention is sparse by an indexer stay sparse while they are read, and are read over what it selects."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from attention.plain import Rows
from sightline.attention import attach
from sightline.methods.pai import PAI
from sightline.models.anatomy import find_anatomy
from sightline.models.layout import Modality, TokenLayout
from sightline.probes.dominance import Dominance
from support.families.core import from_config

TOP = 4
IDS = torch.arange(10, 34).reshape(1, -1)
FOUR = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
LATENT: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 4, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 8,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "head_dim": 8, "index_topk": TOP,
    "index_head_dim": 16, "index_n_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
BLOCKS: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2, "rotary_dim": 4,
    "dense_intermediate_size": 48, "shared_intermediate_size": 32, "index_n_heads": 2, "index_head_dim": 8,
    "index_block_size": 2, "index_topk_blocks": 1, "index_local_blocks": 1, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "layer_types": ["full_attention", *["minimax_m3_sparse"] * 3],
}  # fmt: skip
TOWER = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24,
    "patch_size": 8, "spatial_merge_size": 1, "temporal_patch_size": 1,
}  # fmt: skip
EAGER_ONLY = {"hy_v4"}
KINDS = ["deepseek_v32", "glm_moe_dsa", "minimax_m3_vl", "mistral_large4", "hy_v4", "axk2", "dots3_note", "glm5_next"]


@cache
def sparse_model(kind: str) -> Any:
    if kind == "minimax_m3_vl":
        ids = {"image_token_index": 120, "video_token_index": 121, "projector_hidden_size": 32}
        return from_config(kind, text_config=BLOCKS, vision_config=TOWER, **ids)
    if kind == "mistral_large4":
        return from_config(kind, text_config=LATENT, vision_config={**TOWER, "head_dim": 16})
    if kind == "dots3_note":
        return from_config(f"{kind}_text", made_by="AutoModelForCausalLM", **LATENT)
    if kind == "glm5_next":
        pool = {"index_kpool": 2, "qk_rope_head_dim": 0, "head_dim": 0, "linear_head_dim": 8, "linear_num_heads": 4}
        return from_config(kind, text_config={**LATENT, **pool}, vision_config={**TOWER, "depth": 2, "num_heads": 2})
    return from_config(kind, made_by="AutoModelForCausalLM", **LATENT)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_an_indexer_is_bit_identical_while_it_is_read(kind: str, implementation: str) -> None:
    if implementation == "sdpa" and kind in EAGER_ONLY:
        pytest.skip("this model has no sdpa")
    model = sparse_model(kind)
    model.set_attn_implementation(implementation)
    anatomy, rows = find_anatomy(model), Rows()
    with torch.no_grad():
        plain, tokens = model(input_ids=IDS).logits, model.generate(IDS, **FOUR)
        with attach(anatomy, reader=rows), Dominance(queries="all").on(model):
            assert torch.equal(model(input_ids=IDS).logits, plain)
        with Dominance().on(model) as probe:
            assert torch.equal(model.generate(IDS, **FOUR), tokens)
    assert probe.result().samples[0].rows == 4
    sparse = [layer for layer, part in enumerate(anatomy.attentions) if hasattr(part, "indexer")]
    assert sparse
    seen = {layer: int((rows.steps[0][layer] > 0).sum(-1).max()) for layer in sparse}
    assert min(seen.values()) <= TOP + 1 < IDS.shape[1], "what was not selected has no weight"
    for layer in sparse:
        selected = rows.calls[0][layer].call.visible(torch.arange(IDS.shape[1]))
        assert not rows.steps[0][layer].masked_select(~selected).any()


def test_the_selected_keys_are_shared_out_among_text_and_image() -> None:
    model = sparse_model("deepseek_v32")
    modality = torch.full((1, IDS.shape[1]), int(Modality.TEXT))
    modality[:, 4:16] = int(Modality.IMAGE)
    layout = TokenLayout(modality, IDS.shape[1], ((),), torch.zeros_like(modality, dtype=torch.bool))
    rows = Rows()
    reading = attach(find_anatomy(model), reader=rows)
    with torch.no_grad(), Dominance(queries="all").on(model, layout) as probe, reading:
        model(input_ids=IDS)
    (sample,) = probe.result().samples
    for entry in sample.layers:
        visible = rows.calls[0][entry.layer].call.visible(torch.arange(IDS.shape[1]))[0, 0].float()
        share = (visible * (modality[0] == int(Modality.IMAGE))).sum(1) / visible.sum(1)
        assert entry.selected["image"] == pytest.approx(float(share.mean()), abs=1e-6)
        assert sum(entry.selected.values()) == pytest.approx(1, abs=1e-6)
    again = type(sample).from_dict(sample.to_dict())
    assert again == sample
    assert "image_selected" in probe.result().layer_figures[0]


def test_editing_a_sparse_model_changes_only_what_is_selected() -> None:
    model = sparse_model("deepseek_v32")
    modality = torch.full((1, IDS.shape[1]), int(Modality.TEXT))
    modality[:, 4:16] = int(Modality.IMAGE)
    layout = TokenLayout(modality, IDS.shape[1], ((),), torch.zeros_like(modality, dtype=torch.bool))
    rows = Rows()
    with torch.no_grad():
        plain = model(input_ids=IDS).logits
        with PAI(alpha=0.5, gamma=1.0).on(model, layout), attach(find_anatomy(model), reader=rows):
            steered = model(input_ids=IDS).logits
        assert torch.equal(model(input_ids=IDS).logits, plain)
    assert not torch.equal(steered, plain)
    hidden = ~rows.calls[0][3].call.visible(torch.arange(IDS.shape[1]))
    assert not rows.steps[0][3].masked_select(hidden).any()
