"""Models whose `generate` embeds the prompt itself and lets an inner language model generate (BLIP-2, Kosmos-2).

The outer model's forward never runs there, so the prompt's token ids are taken as its `generate` is entered, and the
inner language model's forward passes count as the model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.generation import GenerationMixin


def find_inner(anatomy: Anatomy) -> nn.Module | None:
    """The language model inside that generates by itself, or None where the model's own forward is what generates."""
    model: Any = anatomy.model
    if type(model).generate is GenerationMixin.generate:
        return None
    names = anatomy.decoder_name.split(".")
    for count in range(1, len(names) + 1):
        part: nn.Module = model.get_submodule(".".join(names[:count]))
        if GenerationMixin in type(part).__mro__:
            return part
    return None


def joined_inputs(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """What a forward of the whole model would have been given: the inner pass, and on the prompt the outer's ids.

    Beams repeat the prompt inside only; its ids and mask are repeated likewise.
    """
    embeds = inner.get("inputs_embeds")
    if inner.get("input_ids") is not None or not isinstance(embeds, Tensor):
        return dict(inner)
    rows = int(embeds.shape[0])
    prompt = {name: given for name, given in outer.items() if isinstance(given, Tensor)}
    for name in ("input_ids", "attention_mask"):
        given = prompt.get(name)
        if given is not None and given.shape[0] < rows:
            prompt[name] = given.repeat_interleave(rows // int(given.shape[0]), 0)
    return prompt | {name: given for name, given in inner.items() if name not in ("input_ids", "attention_mask")}
