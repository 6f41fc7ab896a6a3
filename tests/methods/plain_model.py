"""A whole model under VAR on eager attention, as one would patch it by hand: nothing of the package but its anatomy."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from families import IMAGE, VIDEO, Case
from methods.plain_var import plain_sinks, plain_var
from sightline.models.anatomy import find_anatomy

NAME = "plain_var"


@contextmanager
def plain_model(model: Any, case: Case, method: Any) -> Iterator[None]:
    """Inside, `model` runs the equations on whole eager weights; `case` is the one prompt that is run."""
    anatomy = find_anatomy(model)
    modality = torch.tensor(case.modality)
    image = (modality == IMAGE) | (modality == VIDEO)
    length, last = modality.shape[1], len(anatomy.layers) - 1
    marks: dict[int, torch.Tensor] = {}

    def hook(number: int) -> Any:
        def mark(module: Any, args: Any, kwargs: Any) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            if hidden.shape[1] == length:
                marks[number] = plain_sinks(hidden, modality, method.dims, method.tau, number)

        return mark

    def attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any) -> tuple[Any, Any]:
        eager = inspect.unwrap(type(module).forward).__globals__["eager_attention_forward"]
        output, weights = eager(module, query, key, value, mask, **options)
        layer = next(number for number, own in enumerate(anatomy.attentions) if own is module)
        if layer < 2 or (method.skip_last and layer == last):
            return output, weights
        has_sink = (image & marks[layer]).any(1, keepdim=True)
        keys, rows = weights.shape[-1], weights.shape[-2]
        after = torch.arange(length)[None] > torch.where(image, torch.arange(length), -1).amax(1)[:, None]
        wanted = after if rows == length else torch.ones((len(image), rows), dtype=torch.bool)
        grown = [torch.nn.functional.pad(part, (0, max(0, keys - length))) for part in (image, marks[layer] & has_sink)]
        changed, _ = plain_var(weights, grown[0], grown[1], wanted & has_sink, method.rho, method.summ, method.p)
        heads = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return torch.einsum("bhqk,bhkd->bqhd", changed, heads), changed

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    handles = [
        layer.register_forward_pre_hook(hook(number), with_kwargs=True) for number, layer in enumerate(anatomy.layers)
    ]
    configs = {id(module.config): module.config for module in (anatomy.decoder, *filter(None, anatomy.attentions))}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        for handle in handles:
            handle.remove()
        type(ALL_ATTENTION_FUNCTIONS)._global_mapping.pop(NAME)
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

        type(ALL_MASK_ATTENTION_FUNCTIONS)._global_mapping.pop(NAME)
