"""What an attention sink is: phi, and a watch that marks the sinks of a prompt while it runs.

    phi(x) = max over d in D of |x_d| / sqrt(mean_d x_d^2 + 1e-6)       x: a token's hidden state entering a layer
    sink at layer l: phi(x) > tau                                        layers 0 and 1 have none

Source: arXiv 2503.03321, section 3. No phi exceeds sqrt(hidden size).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention.hooks import BeforeHook, Hooks
from sightline.attention.passes import ForwardPass
from sightline.errors import InputError
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality

EPSILON = 1e-6
FIRST_LAYER = 2
"""Massive activations are written by the first layers; before this one no token counts as a sink."""

TAU = 20.0
"""The threshold of the paper."""


def root_mean_square(hidden: Float[Tensor, "*tokens hidden"]) -> Float[Tensor, "*tokens"]:
    """sqrt(mean_d x_d^2 + 1e-6) in float32."""
    norm: Tensor = torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.float32)
    return (norm.square() / hidden.shape[-1] + EPSILON).sqrt()


def phi(hidden: Float[Tensor, "*tokens hidden"], dims: Sequence[int]) -> Float[Tensor, "*tokens"]:
    """The sink score of hidden states in the dimensions `dims`; 0 without dimensions."""
    if not len(dims):
        return hidden.new_zeros(hidden.shape[:-1], dtype=torch.float32)
    chosen = torch.tensor(dims, device=hidden.device)
    largest = hidden.index_select(-1, chosen).abs().amax(-1).float()
    return largest / root_mean_square(hidden)


def check_dims(dims: Sequence[int], hidden_size: int) -> tuple[int, ...]:
    """The dimensions as a tuple; InputError for one that the hidden states do not have."""
    outside = [dim for dim in dims if not 0 <= dim < hidden_size]
    if outside:
        raise InputError(
            f"Sink dimension {outside[0]} is out of range: the model's hidden states have dimensions 0 to "
            f"{hidden_size - 1}; find the model's own with `sightline sinks`."
        )
    return tuple(dims)


Taker = Callable[[int, Tensor, ForwardPass], None]
"""Takes a layer, the hidden states entering it [batch, positions of the pass, hidden], and the forward pass."""


class StateTap:
    """Shows the hidden states entering each layer, of prompts alone: no hook stands while tokens are generated."""

    def __init__(self, anatomy: Anatomy, layers: Collection[int], take: Taker) -> None:
        self._layers = [(layer, anatomy.layers[layer]) for layer in sorted(layers)]
        self._take = take
        self._hooks = Hooks(anatomy, keeps_rows=True)
        self._step: ForwardPass | None = None

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""
        self._step = step
        if step.is_decoding:
            self.close()
        elif not self._hooks.is_open:
            for layer, module in self._layers:
                # Before what shortens a layer's input: marks are of the whole prompt.
                self._hooks.before(module, self._hook(layer), prepend=True)

    def close(self) -> None:
        """Take all hooks off."""
        self._hooks.close()

    def _hook(self, layer: int) -> BeforeHook:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            if self._step is not None:
                with torch.no_grad():
                    self._take(layer, hidden.detach(), self._step)

        return hook


class SinkTracker:
    """Marks the sinks of the prompt at hand, layer by layer, before the layer's attention runs; keeps one bit a token.

    Beams of a sample and a reordered cache share the prompt, so marks hold for all that is generated from it.
    """

    def __init__(
        self, anatomy: Anatomy, dims: Sequence[int], tau: float, layers: Collection[int] | None = None
    ) -> None:
        wanted = anatomy.attention_layers if layers is None else layers
        self._dims, self._tau = check_dims(dims, anatomy.hidden_size), tau
        self._marks: dict[int, Tensor] = {}
        chosen = [layer for layer in wanted if layer >= FIRST_LAYER] if len(dims) else []
        self._tap = StateTap(anatomy, chosen, self._mark)

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts; with a new prompt the marks of the last one go."""
        if step.is_start:
            self._marks.clear()
        self._tap.begin(step)

    def marks(self, layer: int) -> Tensor | None:
        """[batch, positions of the prompt], bool, on the layer's device: its sinks; None where it can have none."""
        return self._marks.get(layer)

    def close(self) -> None:
        """Take all hooks off."""
        self._tap.close()

    def _mark(self, layer: int, hidden: Tensor, step: ForwardPass) -> None:
        end = step.offset + int(hidden.shape[-2])
        present = step.layout.modality[:, step.offset : end] != int(Modality.PADDING)
        found = (phi(hidden, self._dims) > self._tau) & present.to(hidden.device)
        before = self._marks.get(layer)
        if step.offset and before is not None:
            # A prompt that comes in pieces; generated positions in between are no sinks.
            gap = step.offset - int(before.shape[1])
            kept = torch.nn.functional.pad(before, (0, gap)) if gap > 0 else before[:, : step.offset]
            found = torch.cat([kept.to(found.device), found], 1)
        self._marks[layer] = found


@contextmanager
def track_sinks(
    anatomy: Anatomy, dims: Sequence[int], tau: float, layers: Collection[int] | None = None
) -> Iterator[SinkTracker]:
    """A watch whose hooks are gone when the `with` ends. Whoever enters it hands it the `begin` of every pass.

    layers: those to watch; by default all with softmax attention. Layers 0 and 1 never have sinks.
    """
    watch = SinkTracker(anatomy, dims, tau, layers)
    try:
        yield watch
    finally:
        watch.close()
