"""Looks at the attention of modules outside the decoder, such as a vision tower's, for as long as a `with` lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.call import AttentionCall, AttentionFunction
from sightline.attention.registry import original_function
from sightline.models.transformers_api import enter_attention, implementation_name, remove_attention, set_implementation

_NUMBERS = count()


@contextmanager
def watch(module: nn.Module, look: Callable[[AttentionCall], None]) -> Iterator[None]:
    """Inside, every call that `module` makes of its attention function is shown to `look` before it is computed.

    The module's own kernel computes the output with the arguments it would have got. Modules that share the
    configuration object go through the same function and are not shown. On leaving, everything is as it was.
    """
    config: Any = module.config
    before = implementation_name(config)
    implementation = str(before or "eager")
    name = f"sightline_watch{next(_NUMBERS)}_{implementation}"
    enter_attention(name, _watching(module, implementation, look), implementation)
    set_implementation(config, name)
    try:
        yield
    finally:
        set_implementation(config, before)
        remove_attention(name)


def _watching(watched: nn.Module, implementation: str, look: Callable[[AttentionCall], None]) -> AttentionFunction:
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        original = original_function(module, implementation)
        if module is watched:
            with torch.no_grad():
                look(AttentionCall(module, query, key, value, attention_mask, implementation, original, options))
        return original(module, query, key, value, attention_mask, **options)

    return attention  # type: ignore[no-any-return]
