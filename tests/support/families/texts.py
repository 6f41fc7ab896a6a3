"""Text-only decoders: grouped heads, a sliding window in every layer, capped scores, and one hybrid."""

from __future__ import annotations

from .core import TEXT, Case, Family, prompts, write


def text_case(batch: int, padding: str | None, images: int) -> Case:
    inputs, modality = write(prompts(batch, padding, 0, lambda *_: []), padding)
    return Case(inputs, modality, [[]] * batch)


FAMILIES = [
    Family("llama", text_case, TEXT),
    Family("qwen3", text_case, TEXT),
    Family("mistral", text_case, TEXT, tags=frozenset({"sliding"})),
    Family("gemma2", text_case, TEXT, tags=frozenset({"sliding", "softcap"})),
    Family("opt", text_case, TEXT),
]
