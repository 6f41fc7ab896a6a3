"""A release of Transformers that is not out."""

from __future__ import annotations

from typing import Any

from transformers import LlavaForConditionalGeneration

from families import BY_NAME
from sightline.models.transformers_api.cache import cache_name

LLAVA = BY_NAME["llava"]


class Renaming(LlavaForConditionalGeneration):
    """A release of Transformers that calls the cache by a third name."""

    def forward(  # type: ignore[override]
        self,
        input_ids: Any = None,
        pixel_values: Any = None,
        attention_mask: Any = None,
        memory: Any = None,
        **inputs: Any,
    ) -> Any:
        inputs |= {"pixel_values": pixel_values, "attention_mask": attention_mask}
        return super().forward(input_ids=input_ids, **{cache_name(LLAVA.model()): memory}, **inputs)

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        given = super().prepare_inputs_for_generation(*args, **kwargs)
        name = cache_name(LLAVA.model())
        return {"memory" if key == name else key: value for key, value in given.items()}
