"""A tiny LLaVA with sinks planted by weight surgery: which dimensions, which tokens, is known from how it was made."""

from __future__ import annotations

from typing import Any

import torch

from support.families.core import CLIP, IMAGE_ID, Case, from_config, image, prompts, text_sizes, write

SINK_PATCHES = (0, 4)
"""Of the three by three patches of every image; the BOS token is a sink too."""

MASSIVE = 300.0


def build_planted(
    dims: tuple[int, ...], hidden: int = 32, layers: int = 6, patches: tuple[int, ...] = SINK_PATCHES
) -> Any:
    """Massive activations in `dims`, on BOS and on the given patches, and attention drawn to them in every layer."""
    sizes = text_sizes("llama", hidden_size=hidden, num_hidden_layers=layers, attention_bias=True)
    model: Any = from_config(
        "llava",
        text_config=sizes,
        vision_config=CLIP,
        image_token_index=IMAGE_ID,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    decoder, tower, projector = model.model.language_model, model.model.vision_tower, model.model.multi_modal_projector
    where = list(dims)
    with torch.no_grad():
        # Patches are told apart by their place, which the projector's first unit reads.
        for parameter in tower.encoder.layers.parameters():
            parameter.mul_(0.1)
        tower.embeddings.position_embedding.weight[:, :2] = 0
        tower.embeddings.patch_embedding.weight[:2] = 0
        for patch in patches:
            tower.embeddings.position_embedding.weight[1 + patch, 0] = 1000
            tower.embeddings.position_embedding.weight[1 + patch, 1] = -1000
        projector.linear_1.weight[0] = 0
        projector.linear_1.weight[0, 0], projector.linear_1.weight[0, 1] = 1, -1
        projector.linear_1.bias[0] = -4
        projector.linear_2.weight[where] = 0
        projector.linear_2.bias[where] = 0
        projector.linear_2.weight[:, 0] = 0
        signs = torch.tensor([(-1.0) ** index for index in range(len(where))])
        projector.linear_2.weight[where, 0] = MASSIVE * signs
        decoder.embed_tokens.weight[:, where] = 0
        decoder.embed_tokens.weight[1, where] = MASSIVE * signs
        for layer in decoder.layers:
            # No layer writes to the planted dimensions, and no value is read from them.
            layer.self_attn.o_proj.weight[where] = 0
            layer.self_attn.o_proj.bias[where] = 0
            layer.mlp.down_proj.weight[where] = 0
            layer.self_attn.v_proj.weight[:, where] = 0
            layer.mlp.gate_proj.weight[:, where] = 0
            _draw_attention(layer.self_attn, where)
            layer.input_layernorm.weight.fill_(1)
    return model


def _draw_attention(attention: Any, dims: list[int]) -> None:
    """Every query asks for what only massive activations answer, in the pair of channels that turns slowest."""
    attention.q_proj.weight.mul_(0.1)
    attention.k_proj.weight.mul_(0.1)
    for projection in (attention.q_proj, attention.k_proj):
        slowest = range(3, projection.out_features, 8)
        projection.bias.zero_()
        projection.weight[list(slowest)] = 0
    attention.q_proj.bias[3::8] = 10
    attention.k_proj.weight[3::8, dims[0]] = 1.0


def planted_case(batch: int = 1, padding: str | None = None, images: int = 1, seed: int = 0) -> Case:
    """Prompts with 3 by 3 patches an image."""
    torch.manual_seed(seed)
    inputs, modality = write(prompts(batch, padding, images, lambda *_: image(9)), padding)
    inputs["pixel_values"] = torch.randn(batch * images, 3, 24, 24)
    return Case(inputs, modality, [[(3, 3)] * images] * batch)
