"""What a plain pass of a model holds: hidden states, early logits, the attention of its last row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sightline.attention import AttentionCall, EditedCall, ForwardPass, attach
from sightline.models.anatomy import find_anatomy


def states(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """[batch, vocabulary], and [batch, hidden] behind the embedding and each layer, at the last position."""
    with torch.no_grad():
        output = model(**inputs, use_cache=False, output_hidden_states=True)
    return output.logits[:, -1].float(), [state[:, -1] for state in output.hidden_states]


def read_out(model: Any, state: Tensor, norm: bool = True) -> Tensor:
    anatomy = find_anatomy(model)
    logits = anatomy.head(anatomy.norm(state) if norm else state)
    cap = getattr(anatomy.text_config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


class LastRows:
    """The calls of a plain pass, and the weights of its last row."""

    def __init__(self) -> None:
        self.weights: dict[int, Tensor] = {}
        self.calls: dict[int, AttentionCall] = {}

    def begin(self, step: ForwardPass) -> None: ...

    def end(self, step: ForwardPass) -> None: ...

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        self.weights[layer] = attention.row_weights(torch.tensor([attention.call.queries - 1]))[:, :, 0]
        self.calls[layer] = attention.call


def last_rows(model: Any, inputs: dict[str, Tensor]) -> LastRows:
    reader = LastRows()
    with torch.no_grad(), attach(find_anatomy(model), reader=reader):
        model(**inputs)
    return reader


@contextmanager
def hooked(*pairs: tuple[Any, Callable[..., Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
