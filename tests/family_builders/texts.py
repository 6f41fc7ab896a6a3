"""Text-only decoders: grouped heads, a sliding window in every layer, capped scores, and one hybrid."""

from __future__ import annotations

from torch import nn

from .core import TEXT, Case, Family, from_config, prompts, text_sizes, write


def build_llama() -> nn.Module:
    return from_config("llama", causal=True, **_sizes())


def build_qwen3() -> nn.Module:
    return from_config("qwen3", causal=True, **_sizes())


def build_mistral() -> nn.Module:
    return from_config("mistral", causal=True, **_sizes(), sliding_window=5)


def build_gemma2() -> nn.Module:
    return from_config(
        "gemma2",
        causal=True,
        **_sizes(),
        sliding_window=5,
        attn_logit_softcapping=2.0,
        query_pre_attn_scalar=8,
        final_logit_softcapping=10.0,
    )


def build_opt() -> nn.Module:
    sizes = _sizes()
    for name in ("num_key_value_heads", "head_dim", "intermediate_size"):
        sizes.pop(name)
    return from_config("opt", causal=True, **sizes, ffn_dim=48, word_embed_proj_dim=32)


def _sizes() -> dict[str, object]:
    sizes = text_sizes("")
    sizes.pop("model_type")
    return sizes


def text_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, 0, lambda *_: []), padding)
    return Case(inputs, modality, [[]] * batch)


FAMILIES = [
    Family("llama", build_llama, text_case, TEXT),
    Family("qwen3", build_qwen3, text_case, TEXT),
    Family("mistral", build_mistral, text_case, TEXT, tags=frozenset({"sliding"})),
    Family("gemma2", build_gemma2, text_case, TEXT, tags=frozenset({"sliding", "softcap"})),
    Family("opt", build_opt, text_case, TEXT),
]
