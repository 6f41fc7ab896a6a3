"""Methods that read hidden states through the unembedding, or change what a module puts out.

Reading acts in `generate`: at each step the states of the last position leave the layers named, and the scores are
made of them. Changing acts on all that runs inside. Layers of a reading are counted as Transformers counts
`hidden_states`: 0 is the embedding, k leaves the k-th layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import Method, anatomy_and_layout
from sightline.methods.generating import Processor, processed
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.logits import NEVER, finished

Output = Callable[[int, Float[Tensor, "batch positions hidden"]], Float[Tensor, "batch positions hidden"]]
"""From a layer and what its module puts out to what it puts out instead."""


PAPER_DEPTH = 32
"""Layers of the models that the papers count in."""


@dataclass
class Lens:
    """The states of one step's last position, and what the unembedding makes of them.

    Attributes:
        states: by layer, [rows, hidden].
    """

    anatomy: Anatomy
    states: dict[int, Float[Tensor, "rows hidden"]] = field(default_factory=dict)

    def logits(self, layer: int, norm: bool = True) -> Float[Tensor, "rows vocabulary"]:
        """W_U norm(h_layer), or W_U h_layer, as the model itself makes logits of its last state."""
        return unembed(self.anatomy, self.states[layer], norm)


Scores = Callable[[Tensor, Lens, int], Tensor]
"""From a step's scores, its hidden states and the number of tokens before it to its new scores."""


@dataclass(frozen=True)
class HiddenMethod(Method):
    """Base of methods that make their scores of earlier layers: `layers_read` names them, `scores` is the formula."""

    def layers_read(self, anatomy: Anatomy) -> Sequence[int]:
        """The layers whose states `scores` needs; InputError for one that the model has not."""
        raise NotImplementedError

    def scores(
        self, logits: Float[Tensor, "rows vocabulary"], lens: Lens, step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """The scores, from those of the model; step: tokens generated before, from 0."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether these settings change nothing at all."""
        return False

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside.

        Raises:
            InputError: for a layer the model has not.
            ModelError: for a model whose logits are not its unembedding of its last state.
        """
        anatomy, _ = anatomy_and_layout(model, layout)
        with self.reading(anatomy):
            yield

    @contextmanager
    def reading(self, anatomy: Anatomy, scores: Scores | None = None) -> Iterator[None]:
        """Inside, every `generate` has its scores made by `scores`, by default the method's own."""
        layers = sorted(set(self.layers_read(anatomy)))
        if self.is_idle:
            yield
            return

        @contextmanager
        def begin(given: Mapping[str, Any]) -> Iterator[Processor]:
            reader = _Reader(self.name, scores or self.scores, anatomy, int(given["input_ids"].shape[1]))
            with reader.hooked(layers):
                yield reader

        with processed(self.name, anatomy, begin):
            yield


class _Reader:
    """The processor of one `generate`."""

    def __init__(self, name: str, scores: Scores, anatomy: Anatomy, length: int) -> None:
        self._name, self._scores, self._anatomy, self._length = name, scores, anatomy, length
        self._states: dict[int, Tensor] = {}
        self._passes, self._is_checked = 0, False

    @contextmanager
    def hooked(self, layers: Sequence[int]) -> Iterator[None]:
        """Inside, the states of these layers, and of the last, are noted."""
        every = self._anatomy.layers
        with Hooks(self._anatomy) as hooks:
            for layer in {*layers, len(every)} - {0}:
                hooks.after(every[layer - 1], self._leaving(layer))
            if 0 in layers:
                hooks.before(every[0], self._entering)
            hooks.after(self._anatomy.model, self._passed)
            yield

    def __call__(self, input_ids: Int[Tensor, "rows length"], scores: Tensor) -> Tensor:
        """The step's scores."""
        name = self._name
        if self._passes != 1 or any(len(state) != len(scores) for state in self._states.values()):
            raise InputError(
                f"{name} follows one forward pass a word, and this `generate` runs the model otherwise: leave out what "
                "is not plain greedy search, sampling or beams."
            )
        self._passes = 0
        lens = Lens(self._anatomy, {layer: state.to(scores.device) for layer, state in self._states.items()})
        return self._scores(scores, lens, int(input_ids.shape[1]) - self._length)

    def _leaving(self, layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            self._note(layer, output)

        return note

    def _entering(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._note(0, args[0] if args else kwargs["hidden_states"])

    def _note(self, layer: int, output: Any) -> None:
        state = output if isinstance(output, Tensor) else output[0]
        if state.dim() != 3:
            kind = type(self._anatomy.model).__name__
            raise ModelError(f"{self._name} can't read the hidden states of {kind}, which are no sequence.")
        self._states[layer] = state[:, -1].detach()

    def _passed(self, module: nn.Module, args: Any, output: Any) -> None:
        self._passes += 1
        if not self._is_checked:
            self._is_checked = True
            check_unembedding(self._name, self._anatomy, self._states[len(self._anatomy.layers)], output.logits)


def unembed(anatomy: Anatomy, state: Float[Tensor, "*rows hidden"], norm: bool = True) -> Float[Tensor, "*rows words"]:
    """The logits of hidden states by the model's own norm, head and what it does to logits behind it, in float32."""
    head, last_norm = anatomy.head, anatomy.norm
    if head is None or (norm and last_norm is None):
        raise ModelError(f"{type(anatomy.model).__name__} has no unembedding that hidden states could be read by.")
    state = state.to(next(head.parameters()).dtype)
    logits = head(cast(nn.Module, last_norm)(state) if norm else state).float()
    return finished(anatomy.model, anatomy.text_config, logits)


def check_unembedding(name: str, anatomy: Anatomy, last: Float[Tensor, "rows hidden"], logits: Tensor) -> None:
    """ModelError where the last layer's state, unembedded, is not what the model gives as its logits."""
    with torch.no_grad():
        ours, theirs = unembed(anatomy, last), logits[:, -1].float()
    known = theirs > NEVER / 2
    if ours.shape != theirs.shape or not torch.allclose(
        ours, theirs, rtol=0.02, atol=0.02 * float(theirs[known].std())
    ):
        kind = type(anatomy.model).__name__
        raise ModelError(f"{name} can't read earlier layers of {kind}, whose logits are not head(norm(last state)).")


def check_depth(name: str, anatomy: Anatomy, layers: Sequence[int]) -> None:
    """InputError for a layer, counted as `hidden_states` are, that the model has not."""
    count = len(anatomy.layers)
    for layer in layers:
        if not 0 <= layer <= count:
            raise InputError(
                f"Layer {layer} is out of range in {name}: states stand behind layers 0 (the embedding) to {count}."
            )


def feed_forward(name: str, anatomy: Anatomy, layer: int, whole: bool = False) -> nn.Module:
    """The module that puts out what the feed-forward part of a layer of the decoder makes.

    Args:
        whole: it must be the part itself, whose input is the layer's state; some layers show its last projection alone.

    Raises:
        ModelError: for a layer without one.
    """
    found = feed_forward_of(anatomy.layers[layer], anatomy.attentions[layer])
    if found is None or (whole and isinstance(found, nn.Linear)):
        kind = type(anatomy.model).__name__
        raise ModelError(f"{name} works on whole feed-forward parts, and layer {layer} of {kind} shows none.")
    return found


def feed_forward_of(block: nn.Module, attention: nn.Module | None) -> nn.Module | None:
    """The feed-forward part of a layer, None where there is none.

    It is the child that is neither attention nor norm and has most weights; where that is a projection, as in OPT,
    whose layers hold two of them, the one that leads back to the layer's width.
    """
    inside = () if attention is None else tuple(attention.modules())
    parts = [
        child
        for label, child in block.named_children()
        if not any(part in inside for part in child.modules()) and "norm" not in label and "attn" not in label
    ]
    sized = [(sum(value.numel() for value in part.parameters()), part) for part in parts]
    best = max(sized, key=lambda pair: pair[0], default=(0, None))[1]
    if isinstance(best, nn.Linear):
        projections = [part for part in parts if isinstance(part, nn.Linear)]
        return next((part for part in projections[1:] if part.out_features == projections[0].in_features), None)
    linear = best is not None and any(
        isinstance(part, nn.Linear) or hasattr(part, "gate_up_proj") for part in best.modules()
    )
    return best if linear else None


@contextmanager
def changed_outputs(anatomy: Anatomy, modules: Mapping[int, nn.Module], change: Output) -> Iterator[None]:
    """Inside, what these modules put out is what `change` makes of it; a method's second pass stays untouched."""

    def hook(layer: int) -> Callable[[nn.Module, Any, Any], Any]:
        def changed(module: nn.Module, args: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                return _shaped(change, layer, output)
            return (_shaped(change, layer, output[0]), *output[1:])

        return changed

    with Hooks(anatomy) as hooks:
        for layer, module in modules.items():
            hooks.after(module, hook(layer))
        yield


def _shaped(change: Output, layer: int, output: Tensor) -> Tensor:
    """What the change gives, in the output's own dtype."""
    return change(layer, output.float()).to(output.dtype)


def layers_between(name: str, anatomy: Anatomy, given: tuple[int | None, int | None], paper: tuple[int, int]) -> range:
    """first_layer to last_layer of a method, by default the paper's of 32, scaled to the depth.

    Raises:
        InputError: for layers that the model has not, or that end before they begin.
    """
    depth = len(anatomy.layers)
    scaled = (round(layer * depth / PAPER_DEPTH) for layer in paper)
    first, last = (default if layer is None else layer for layer, default in zip(given, scaled, strict=True))
    check_depth(name, anatomy, (first, last))
    if first > last:
        raise InputError(f"The layers of {name} end at {last}, before they begin at {first}: give a later last_layer.")
    return range(first, last + 1)
