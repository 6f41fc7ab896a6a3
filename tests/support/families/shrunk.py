"""A tiny random model of any class that Transformers lists: its own default configuration, with small numbers in it."""

from __future__ import annotations

from typing import Any

import pytest

from .core import BOS_ID, EOS_ID, PAD_ID, VOCABULARY, seeded

SMALL: dict[str, int] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "d_model": 32,
    "embed_dim": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "num_hidden_layers": 4,
    "depth": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "sliding_window": 6,
    "projection_hidden_size": 32,
    "projector_hidden_size": 32,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
}
"""By the names of fields, wherever they stand; a field that a configuration has not is left out."""

TURNED: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}

WANTED: dict[str, dict[str, dict[str, Any]]] = {
    "deepseek_ocr2": {"text": {"mlp_layer_types": ["dense", "sparse"] * 2}},
    "ernie4_5_vl_moe": {"text": {"rope_parameters": {**TURNED, "mrope_section": [1, 1, 2]}}},
    "glm46v": {"text": {"rope_parameters": {**TURNED, "mrope_section": [2, 1, 1]}}},
    "glmga": {"text": {"rope_parameters": {**TURNED, "mrope_section": [2, 1, 1]}}},
    "glm5_next": {
        "text": {"linear_head_dim": 8, "linear_num_heads": 4},
        "vision": {"projection_intermediate_size": 48, "out_hidden_size": 32},
    },
    "hunyuan_vl": {"text": {"head_dim": 8}},
}
"""Fields without which a default configuration makes no model, by type."""

IDS = {"pad_token_id": PAD_ID, "bos_token_id": BOS_ID, "eos_token_id": EOS_ID}


def shrink(config: Any, is_vision: bool = False) -> Any:
    """The configuration itself, its parts and the lists of their layers made small."""
    layers = SMALL["num_hidden_layers"]
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict") and hasattr(value, "model_type"):
            shrink(value, is_vision or any(word in name for word in ("vision", "audio", "vq")))
        elif name in SMALL and isinstance(value, int) and not isinstance(value, bool):
            setattr(config, name, min(value, 2 if is_vision and name == "num_hidden_layers" else SMALL[name]))
        elif name in ("layer_types", "mlp_layer_types") and isinstance(value, list):
            kinds = list(dict.fromkeys(value))
            setattr(config, name, [kinds[place % len(kinds)] for place in range(layers)])
        elif name in IDS and isinstance(value, int | list):
            setattr(config, name, IDS[name])
        elif name.endswith(("_token_id", "_token_index")) and isinstance(value, int) and value >= VOCABULARY:
            setattr(config, name, value % 17 + 105)
    if isinstance(getattr(config, "kv_lora_rank", None), int):  # every head has keys of its own
        config.num_key_value_heads = SMALL["num_attention_heads"]
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and isinstance(rope.get("mrope_section"), list):
        half = int(SMALL["head_dim"] * rope.get("partial_rotary_factor", 1.0)) // 2  # the sections add up to it
        rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    return config


def shrunk(
    model_type: str, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **more: Any
) -> Any:
    """A seeded random model of this type. vision, text, more: fields of its configurations that differ."""
    from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"this version of Transformers has no {model_type}")
    config = small_config(model_type, vision, text, **more)
    return seeded(lambda: AutoModelForImageTextToText.from_config(config))


def small_config(
    model_type: str, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **more: Any
) -> Any:
    """The configuration of `shrunk`."""
    from transformers import AutoConfig

    config = shrink(AutoConfig.for_model(model_type))
    for part, fields in (
        (config, more),
        (config.get_text_config(), text),
        (getattr(config, "vision_config", None), vision),
    ):
        for name, value in (fields or {}).items():
            setattr(part, name, value)
    return config
