"""Takes a decoder's attention calls over, also where single layers are run by hand outside a pass of the model.

`attach` shows the attention of whole forward passes to methods that act side by side. Here one caller has the attention
to itself: whatever else is lent to the model is bypassed, and comes back on leaving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall, AttentionFunction
from sightline.attention.hooks import bypassed
from sightline.attention.registry import attention_configs, implementation_of, original_function
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api import (
    enter_attention,
    implementation_name,
    remove_attention,
    set_implementation,
)

Attend = Callable[[int, AttentionCall], "Tensor | None"]
"""From a layer and its call to the output, [batch, queries, heads, value_dim], or None for the model's own kernel."""

_NUMBERS = count()


@dataclass
class AttentionOverride:
    """What is asked at every attention call; None leaves all to the model's own kernel.

    is_over: the attention is the model's own again, and nothing more can be read.
    """

    attend: Attend | None = None
    is_over: bool = False

    @contextmanager
    def by(self, attend: Attend) -> Iterator[None]:
        """Inside, `attend` is asked."""
        if self.is_over:
            raise InputError("The model's attention was given back: read impact inside the `with` of its reader.")
        before, self.attend = self.attend, attend
        try:
            yield
        finally:
            self.attend = before


@contextmanager
def taken(anatomy: Anatomy) -> Iterator[AttentionOverride]:
    """Inside, the attention of the decoder's layers is what the takeover's `attend` answers.

    Raises:
        ModelError: when the model's attention does not go through the interface, in which case nothing was changed.
    """
    modules = {id(module): layer for layer, module in enumerate(anatomy.attentions) if module is not None}
    if len(modules) < len(anatomy.attention_layers):
        kind = type(anatomy.model).__name__
        raise ModelError(
            f"Layers of {kind} share one attention module, and what it computes can't be told apart by layer."
        )
    configs = attention_configs(anatomy)
    if not configs:
        kind = type(anatomy.model).__name__
        raise ModelError(f"{kind} does not look its attention up in the interface of Transformers, so nothing is read.")
    before = [(config, implementation_name(config)) for config in configs]
    takeover, number = AttentionOverride(), next(_NUMBERS)
    names = {implementation: f"sightline_take{number}_{implementation}" for implementation in
             sorted({implementation_of(config) for config in configs})}  # fmt: skip
    for module in filter(None, anatomy.attentions):
        original_function(module, implementation_of(module.config))
    with bypassed(anatomy):
        try:
            for implementation, name in names.items():
                enter_attention(name, _taking(takeover, modules, implementation), implementation)
            for config in configs:
                set_implementation(config, names[implementation_of(config)])
            yield takeover
        finally:
            takeover.is_over = True
            for config, own in before:
                set_implementation(config, own)
            for entered in names.values():
                remove_attention(entered)


def _taking(takeover: AttentionOverride, modules: dict[int, int], implementation: str) -> AttentionFunction:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        original = original_function(module, implementation)
        layer = modules.get(id(module))
        if layer is not None and takeover.attend is not None:
            call = AttentionCall(module, query, key, value, attention_mask, implementation, original, options)
            output = takeover.attend(layer, call)
            if output is not None:
                return output, None
        return original(module, query, key, value, attention_mask, **options)

    return attention  # type: ignore[no-any-return]
