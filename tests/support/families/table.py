"""What each tiny family is: its configuration, as what differs from the sizes that all share."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .core import AUDIO_ID, CLIP, END_ID, IMAGE_ID, SIGLIP, START_ID, VIDEO_ID, from_config, text_sizes
from .shrunk import shrunk

Fields = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A tiny configuration.

    Attributes:
        kind: the model's type.
        text: the decoder's type; "" where its fields are the model's own, None where `more` has them.
        vision, audio: fields of the towers.
        sizes: fields of the decoder beside `TEXT_SIZES`; `...` leaves one of those out.
        more: fields of the model.
        made_by: the class of Transformers.
        is_shrunk: whether all else is the type's own default, made small.
    """

    kind: str
    text: str | None = None
    vision: Fields | None = None
    more: Fields = field(default_factory=dict)
    sizes: Fields = field(default_factory=dict)
    audio: Fields | None = None
    made_by: str = "AutoModelForImageTextToText"
    is_shrunk: bool = False

    @property
    def parts(self) -> Fields:
        """The fields of the configuration."""
        sizes = text_sizes(self.text or "", **self.sizes)
        sizes = {name: value for name, value in sizes.items() if value is not ...}
        if not self.text:
            del sizes["model_type"]
        found = {None: {}, "": sizes}.get(self.text, {"text_config": sizes})
        towers = {"vision_config": self.vision, "audio_config": self.audio}
        return {**found, **{name: value for name, value in towers.items() if value is not None}, **self.more}

    def build(self) -> nn.Module:
        """A seeded random model."""
        if self.is_shrunk:
            return shrunk(self.kind, deepcopy(self.vision), deepcopy(self.sizes), **self.more)
        return from_config(self.kind, self.made_by, **deepcopy(self.parts))


def without(fields: Fields, *names: str) -> Fields:
    """All the others."""
    return {name: value for name, value in fields.items() if name not in names}


# Parts that several share ---------------------------------------------------------------------------------------------

INDEX, TOKEN = {"image_token_index": IMAGE_ID}, {"image_token_id": IMAGE_ID}
BOTH = {**TOKEN, "video_token_id": VIDEO_ID}
BOTH_INDICES = {**INDEX, "video_token_index": VIDEO_ID}
BRACKETS = {"vision_start_token_id": START_ID, "vision_end_token_id": END_ID}
CAUSAL = "AutoModelForCausalLM"
LAST_BUT_ONE = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
LAST_WHOLE = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}

PINPOINTS = [[24, 48], [48, 24], [48, 48]]
"""Resolutions an image may be cut up at, (height, width); one tile is 24 by 24, three by three patches."""

ANYRES = {"image_grid_pinpoints": PINPOINTS}
TOWER: Fields = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
THREE_BY_THREE: Fields = {**TOWER, "image_size": 24, "patch_size": 8}
IDEFICS: Fields = {**TOWER, "image_size": 32, "patch_size": 8}
PIXTRAL: Fields = {**TOWER, "model_type": "pixtral", "image_size": 64, "patch_size": 4, "head_dim": 8}
OPT: Fields = {
    **dict.fromkeys(("num_key_value_heads", "head_dim", "intermediate_size"), ...),
    "ffn_dim": 48,
    "word_embed_proj_dim": 32,
}
WIDE = {"sliding_window": None}

# Qwen and its kin
MROPE: Fields = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
TURNED: Fields = {"rope_parameters": MROPE}
INTERLEAVED: Fields = {"rope_parameters": {**MROPE, "mrope_interleaved": True}}
EXPERTS: Fields = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
MERGED: Fields = {"patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32}
PATCHED: Fields = {**MERGED, "depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2}
WINDOWS: Fields = {**PATCHED, "window_size": 16, "fullatt_block_indexes": [1]}
DEEPSTACK: Fields = {**PATCHED, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
AUDIO_ENCODER: Fields = {
    "num_mel_bins": 8,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "d_model": 16,
}
LISTENER: Fields = {**AUDIO_ENCODER, "output_dim": 32, "n_window": 10, "max_source_positions": 40}
SOUNDS: Fields = {"audio_start_token_id": 114, "audio_end_token_id": 115}

# GLM and what is made from its own default
PARTIAL: Fields = {"rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}}
IN_BRACKETS: Fields = {
    **BOTH,
    "image_start_token_id": START_ID,
    "image_end_token_id": END_ID,
    "video_start_token_id": 114,
    "video_end_token_id": 115,
}
GLM_TOWER: Fields = {**PATCHED, "image_size": 32}

# Google
KINDS = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention"]
SLIDING: Fields = {"num_hidden_layers": 5, "sliding_window": 6, "layer_types": KINDS}
PALIGEMMA: Fields = {"projection_dim": 32, **INDEX}

QFORMER: Fields = {
    "qformer_config": {**TOWER, "vocab_size": 128, "encoder_hidden_size": 16},
    "num_query_tokens": 4,
    **INDEX,
}
CODEBOOK: Fields = {
    "num_embeddings": 16,
    "base_channels": 32,
    "latent_channels": 32,
    "channel_multiplier": [1, 1],
    "num_res_blocks": 1,
}
CODES = [("A", one) for one in "ABCDEFGHIJ"] + [("B", one) for one in "ABCDEF"]
"""Sixteen numbers in letters, A for 0."""

# The table ------------------------------------------------------------------------------------------------------------

# fmt: off
RECIPES: dict[str, Recipe] = {
    # LLaVA
    "llava": Recipe("llava", "llama", CLIP, INDEX | LAST_BUT_ONE),
    "vipllava": Recipe("vipllava", "llama", CLIP, INDEX | {"vision_feature_layers": [-1, -2]}),
    "llava_next": Recipe("llava_next", "llama", CLIP, INDEX | LAST_BUT_ONE | ANYRES),
    "llava_onevision": Recipe("llava_onevision", "qwen2", SIGLIP,
        BOTH_INDICES | LAST_WHOLE | ANYRES | {"vision_aspect_ratio": "anyres_max_9"}),
    "video_llava": Recipe("video_llava", "llama", CLIP, BOTH_INDICES | LAST_BUT_ONE),
    "llava_with_class_token": Recipe("llava", "llama", CLIP, INDEX | LAST_WHOLE | {"vision_feature_layer": -2}),
    "llava_next_video": Recipe("llava_next_video", "llama", CLIP,
        BOTH_INDICES | LAST_BUT_ONE | ANYRES | {"spatial_pool_stride": 1}),
    # Qwen
    "qwen2_vl": Recipe("qwen2_vl", "qwen2_vl_text",
        {**without(PATCHED, "out_hidden_size", "intermediate_size"),
         "hidden_size": 32, "embed_dim": 16, "mlp_ratio": 2},
        BOTH | BRACKETS, TURNED),
    "qwen2_5_vl": Recipe("qwen2_5_vl", "qwen2_5_vl_text", WINDOWS, BOTH | BRACKETS, TURNED),
    "qwen3_vl": Recipe("qwen3_vl", "qwen3_vl_text", DEEPSTACK, BOTH | BRACKETS, INTERLEAVED),
    "qwen3_vl_moe": Recipe("qwen3_vl_moe", "qwen3_vl_moe_text", DEEPSTACK, BOTH | BRACKETS, INTERLEAVED | EXPERTS),
    "qwen3_5": Recipe("qwen3_5", "qwen3_5_text", {**PATCHED, "num_position_embeddings": 64}, BOTH | BRACKETS, {
        "num_hidden_layers": 6, "layer_types": ["linear_attention", "full_attention"] * 3, "head_dim": 16,
        "rope_parameters": {**MROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.5},
        "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}),
    "qwen2_audio": Recipe("qwen2_audio", "qwen2", more={"audio_token_index": AUDIO_ID},
        audio={**AUDIO_ENCODER, "model_type": "qwen2_audio_encoder", "max_source_positions": 20},
        made_by="Qwen2AudioForConditionalGeneration"),
    "qwen2_5_omni_thinker": Recipe("qwen2_5_omni_thinker", "qwen2_5_omni_text", WINDOWS,
        BOTH_INDICES | BRACKETS | SOUNDS | {"audio_token_index": AUDIO_ID}, TURNED, LISTENER,
        "Qwen2_5OmniThinkerForConditionalGeneration"),
    "qwen3_omni_moe_thinker": Recipe("qwen3_omni_moe_thinker", "qwen3_omni_moe_text", DEEPSTACK,
        BOTH | BRACKETS | SOUNDS | {"audio_token_id": AUDIO_ID}, INTERLEAVED | EXPERTS,
        {**LISTENER, "downsample_hidden_size": 8}, "Qwen3OmniMoeThinkerForConditionalGeneration"),
    # Google
    "gemma3": Recipe("gemma3", "gemma3_text", {**SIGLIP, "image_size": 32},
        INDEX | {"mm_tokens_per_image": 4, "boi_token_index": START_ID, "eoi_token_index": END_ID},
        SLIDING | {"query_pre_attn_scalar": 8}),
    "gemma4": Recipe("gemma4", "gemma4_text",
        {**TOWER, "num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "pooling_kernel_size": 2,
         "position_embedding_size": 32},
        BOTH | {"audio_config": None, "boi_token_id": START_ID, "eoi_token_id": END_ID, "audio_token_id": AUDIO_ID},
        SLIDING | {"global_head_dim": 16, "num_global_key_value_heads": 1, "attention_k_eq_v": True,
                   "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 128,
                   "use_bidirectional_attention": "vision"}),
    "paligemma": Recipe("paligemma", "gemma", {**SIGLIP, "projection_dim": 32}, PALIGEMMA),
    "paligemma2": Recipe("paligemma", "gemma2", {**SIGLIP, "projection_dim": 32}, PALIGEMMA,
        {"sliding_window": 6, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0}),
    # Tiles, and images of their own shape
    "idefics3": Recipe("idefics3", "llama", IDEFICS, TOKEN | {"scale_factor": 2, "pad_token_id": 0}),
    "smolvlm": Recipe("smolvlm", "llama", IDEFICS, TOKEN | {"scale_factor": 2, "pad_token_id": 0}),
    "idefics2": Recipe("idefics2", "mistral", IDEFICS, TOKEN | {"perceiver_config": {
        "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2, "resampler_head_dim": 8,
        "num_key_value_heads": 1, "hidden_size": 32}}, WIDE),
    "internvl": Recipe("internvl", "qwen2", {**TOWER, "image_size": [24, 24], "patch_size": [4, 4]},
        TOKEN | {"downsample_ratio": 0.5, "image_seq_length": 9, "vision_feature_layer": -1}),
    "mistral3": Recipe("mistral3", "mistral", PIXTRAL,
        INDEX | {"spatial_merge_size": 2, "vision_feature_layer": -1}, WIDE),
    "pixtral": Recipe("llava", "mistral", PIXTRAL, INDEX | LAST_WHOLE, WIDE),
    "lighton_ocr": Recipe("lighton_ocr", "qwen3", PIXTRAL, TOKEN | {"spatial_merge_size": 2}),
    # Decoders of text alone
    "llama": Recipe("llama", "", made_by=CAUSAL),
    "qwen3": Recipe("qwen3", "", made_by=CAUSAL),
    "mistral": Recipe("mistral", "", sizes={"sliding_window": 5}, made_by=CAUSAL),
    "gemma2": Recipe("gemma2", "", made_by=CAUSAL, sizes={"sliding_window": 5,
        "query_pre_attn_scalar": 8, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 10.0}),
    "opt": Recipe("opt", "", sizes=OPT, made_by=CAUSAL),
    # No rule was written for these
    "aya_vision": Recipe("aya_vision", "cohere2", {**SIGLIP, "image_size": 32},
        INDEX | {"adapter_intermediate_size": 48}, {"sliding_window": 6}),
    "cohere2_vision": Recipe("cohere2_vision", "cohere2", {**SIGLIP, "image_size": 32},
        TOKEN | {"alignment_intermediate_size": 48}, {"sliding_window": 6}),
    "glm4v": Recipe("glm4v", "glm4v_text", GLM_TOWER, IN_BRACKETS, PARTIAL),
    # Each of five is added to the image's positions in front of a layer of its own: four corners of every two by two
    # patches, and their mean. Six by six patches a tile are three by three tokens.
    "granite4_vision": Recipe("granite4_vision", "granite4_vision_text",
        {**CLIP, "patch_size": 4, "hidden_size": 64},
        INDEX | LAST_BUT_ONE | ANYRES | {"downsample_rate": "1/2", "deepstack_layer_map": [[1, 0]],
         "spatial_target_layers": [1, 2, 3, 4], "qformer_config": {"model_type": "blip_2_qformer",
         "intermediate_size": 48, "num_hidden_layers": 1, "cross_attention_frequency": 1,
         "use_qformer_text_input": False}},
        {"num_hidden_layers": 6}),
    "glm46v": Recipe("glm46v", "glm4v_text", GLM_TOWER, IN_BRACKETS, PARTIAL),
    "got_ocr2": Recipe("got_ocr2", "qwen2",
        {**without(TOWER, "intermediate_size"), "output_channels": 8, "image_size": 64, "patch_size": 4, "mlp_dim": 24,
         "window_size": 4, "global_attn_indexes": [1]},
        INDEX | {"image_seq_length": 16}),
    "lfm2_vl": Recipe("lfm2_vl", "lfm2",
        {**TOWER, "model_type": "siglip2_vision_model", "patch_size": 4, "num_patches": 16},
        TOKEN | {"projector_hidden_size": 24},
        {"num_hidden_layers": 6, "layer_types": ["conv", "full_attention"] * 3, "conv_L_cache": 3, "block_dim": 32,
         "block_ff_dim": 48, "conv_dim": 32, "conv_dim_out": 32}),
    "llama4": Recipe("llama4", "llama4_text",
        {**IDEFICS, "intermediate_size": 64, "vision_output_dim": 16, "projector_input_dim": 16,
         "projector_output_dim": 16},
        INDEX | {"boi_token_index": START_ID, "eoi_token_index": END_ID},
        {"intermediate_size_mlp": 48, "num_local_experts": 2, "attention_chunk_size": 8, "moe_layers": [1, 3],
         "no_rope_layers": [1, 1, 1, 0]}),
    "ovis2": Recipe("ovis2", "qwen2", {**THREE_BY_THREE, "vocab_size": 32, "num_visual_indicator_tokens": 5},
        TOKEN | {"visual_indicator_token_ids": [100, 101, 102, 103, 104], "vocab_size": 128, "hidden_size": 32}),
    "fuyu": Recipe("fuyu", "persimmon", more=TOKEN | {"patch_size": 4, "image_size": 24}),
    "janus": Recipe("janus", "llama",
        {**without(THREE_BY_THREE, "intermediate_size"), "projection_dim": 32, "num_image_tokens": 9},
        TOKEN | {"vq_config": {**CODEBOOK, "projection_dim": 32, "num_patches": 3, "image_token_embed_dim": 32}}),
    "deepseek_vl": Recipe("deepseek_vl", "llama", SIGLIP, TOKEN),
    "video_llama_3": Recipe("video_llama_3", "qwen2", {**TOWER, "patch_size": 4}, BOTH),
    "chameleon": Recipe("chameleon", "", None,
        {"vq_config": {**CODEBOOK, "embed_dim": 8, "resolution": 6}, "vocabulary_map": {
            "<image>": IMAGE_ID, **{f"IMGIMGAA{ten}{one}Z": 80 + at for at, (ten, one) in enumerate(CODES)}}},
        {"head_dim": ...}),
    "minicpmv4_6": Recipe("minicpmv4_6", "qwen3", {**TOWER, "image_size": 64, "patch_size": 4, "insert_layer_id": 1},
        BOTH | {"insert_layer_id": 1, "image_size": 64}),
    "voxtral": Recipe("voxtral", "llama", more={"audio_token_id": AUDIO_ID},
        audio={**TOWER, "intermediate_size": 64, "num_mel_bins": 8, "max_source_positions": 20},
        made_by="VoxtralForConditionalGeneration"),
    # Learned queries
    "aria": Recipe("aria", "aria_text", {**THREE_BY_THREE, "model_type": "idefics3_vision"},
        INDEX | {"projector_patch_to_query_dict": {9: 4}},
        {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}),
    "kosmos2": Recipe("kosmos-2", None, THREE_BY_THREE, {"latent_query_num": 4, "text_config": {
        "vocab_size": 128, "embed_dim": 32, "layers": 4, "ffn_dim": 48, "attention_heads": 4,
        "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}}),
    "blip2": Recipe("blip-2", "opt", THREE_BY_THREE, QFORMER, OPT),
    "instructblip": Recipe("instructblip", "opt", THREE_BY_THREE, QFORMER, OPT),
    # All but a few fields is their own default
    "glm4v_moe": Recipe("glm4v_moe", None, MERGED, IN_BRACKETS, PARTIAL, is_shrunk=True),
    "glm_ocr": Recipe("glm_ocr", None, MERGED, IN_BRACKETS, PARTIAL, is_shrunk=True),
    "paddleocr_vl": Recipe("paddleocr_vl", None, MERGED, BOTH, PARTIAL, is_shrunk=True),
    "exaone4_5": Recipe("exaone4_5", None, MERGED, BOTH, is_shrunk=True),
    "lfm3_vl": Recipe("lfm3_vl", None, MERGED, BOTH, is_shrunk=True),
    "qwen3_5_moe": Recipe("qwen3_5_moe", None, MERGED, BOTH, is_shrunk=True),
    "kimi_k25": Recipe("kimi_k25", None, {**MERGED, "hidden_size": 32}, BOTH | {"projection_hidden_size": 32},
        is_shrunk=True),
}
# fmt: on
"""By the name of the family, or of the one whose model it shares."""
