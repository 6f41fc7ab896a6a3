"""Test-time registers: the vision tower's outlier patches lose their norm to a token of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass, attach
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.artifacts import NEURONS
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import check_least
from sightline.methods.scoring import require_image
from sightline.methods.tower_tokens import Pictures, TowerTokens, tower_neurons
from sightline.models.anatomy import Anatomy

_Peak = Literal["neuron", "layer"]


@register
@dataclass(frozen=True)
class Registers(Method):
    """Moves what makes outlier patches in the vision tower to tokens added at test time (arXiv 2506.08010).

        r = 0                                                    `count` registers, behind each picture's patches
        a_r[n] <- max over tokens t of a_t[n]                    for each register neuron n
        a_j[n] <- 0                                              at the patches j; a class token keeps its own

    a: [tokens, neurons], activations of a layer's feed-forward part in the vision tower, before its last projection.
    Register neurons write the large norms that a few patches of little content have in many towers. The registers take
    them over; they go from layer to layer and nowhere else, so that the projector and the language model see as many
    tokens as ever. A tower that norms its patches before the first layer, as CLIP, norms the zeros as well. The public
    code takes a picture at a time; here each has registers of its own. Since June 2025 it writes one number in all
    register neurons of a layer, the largest in size among them, with its sign: `peak` = layer.

    Which neurons: a list for each tower, by `sl.find_register_neurons(model, pictures)`, as it is or saved to a file,
    or `sightline impact MODEL --mode registers`, which writes it as `registers.json`. Control: `random` = true, as many
    other neurons of the same layers.
    """

    name: ClassVar[str] = "registers"
    neurons: tuple[str, ...] | Any | None = setting(
        None, "the neurons, as 5.120+7.33 (layer.neuron), or a registers.json of `impact --mode registers`"
    )
    count: int = setting(1, "registers of each picture, 1 or more")
    peak: _Peak = setting(
        "neuron", "what the registers get: each neuron's highest activation, or the largest in size of the layer's"
    )
    random: bool = setting(False, "a control: as many other neurons of the same layers")
    seed: int = setting(0, "of the draw of other neurons")

    def __post_init__(self) -> None:
        check_least(self.name, 1, count=self.count)
        if self.peak not in get_args(_Peak):
            raise InputError(f"peak is {self.peak} in registers: give {' or '.join(get_args(_Peak))}.")
        object.__setattr__(self, "neurons", NEURONS.read(self.neurons))
        self._pairs()

    def require_complete(self) -> None:
        """InputError without neurons."""
        if self.neurons is None:
            raise InputError(
                "registers needs the tower's register neurons: give the field neurons, as 5.120+7.33, or a "
                "registers.json of `sightline impact --mode registers` or of `sl.find_register_neurons`."
            )

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every picture that goes through the tower inside.

        Raises:
            InputError: without neurons, for those of another model, one that the tower has not, and for a prompt
                without a picture.
            ModelError: for a model whose vision tower can't have another token.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        self.require_complete()
        NEURONS.require_model(self.neurons, model, anatomy)
        chosen = self.chosen(anatomy)

        def shift(layer: int, a: Float[Tensor, "*rows places neurons"], pictures: Pictures) -> Tensor:
            return self.move(a, chosen[layer], pictures)

        tokens = TowerTokens(self.name, anatomy, self.count, shift, tuple(chosen))
        watch = _Watch(self.name, tokens)
        with tokens.standing(), Hooks(anatomy) as hooks:
            hooks.before(anatomy.layers[0], watch.look)
            with attach(anatomy, reader=watch, layout=source, layers=()):
                yield

    def chosen(self, anatomy: Anatomy) -> dict[int, list[int]]:
        """The neurons of each layer."""
        layers = tower_neurons(self.name, anatomy)
        found: dict[int, list[int]] = {}
        for layer, neuron in self._pairs():
            if not 0 <= layer < len(layers):
                raise InputError(
                    f"Layer {layer} is out of range in registers: the vision tower has layers 0 to {len(layers) - 1}."
                )
            width = layers[layer].projection.in_features
            if not 0 <= neuron < width:
                raise InputError(
                    f"Neuron {layer}.{neuron} is out of range in registers: the layer has neurons 0 to {width - 1}."
                )
            found.setdefault(layer, []).append(neuron)
        if not self.random:
            return found
        source = torch.Generator().manual_seed(self.seed)
        for layer, named in sorted(found.items()):
            others = sorted(set(range(layers[layer].projection.in_features)) - set(named))
            if len(others) < len(named):
                raise InputError(f"registers has {len(named)} neurons of layer {layer} named and too few others.")
            order = torch.randperm(len(others), generator=source)[: len(named)].tolist()
            found[layer] = sorted(others[place] for place in order)
        return found

    def move(
        self, a: Float[Tensor, "*rows places neurons"], n: list[int], pictures: Pictures
    ) -> Float[Tensor, "*rows places neurons"]:
        """The activations, with those of the neurons n at the registers alone and at class tokens."""
        before = a[..., n]
        after = torch.where(pictures.is_class[:, None], before, torch.zeros_like(before))
        for number in range(len(pictures.sizes)):
            mine = pictures.picture == number
            seen = before[..., mine, :]
            hidden = torch.zeros_like(seen, dtype=torch.bool)
            if pictures.present is not None:
                hidden = hidden | ~pictures.present[..., mine, None]
            after[..., mine & pictures.is_new, :] = self._highest(seen, hidden)
        moved = a.clone()
        moved[..., n] = after
        return moved

    def _highest(self, a: Float[Tensor, "*rows tokens neurons"], hidden: Tensor) -> Float[Tensor, "*rows 1 neurons"]:
        """What a picture's registers get; 0 where it has no token."""
        if self.peak == "layer":
            seen = a.masked_fill(hidden, 0)
            high, low = seen.amax((-2, -1), keepdim=True), seen.amin((-2, -1), keepdim=True)
            return torch.where(high.abs() > low.abs(), high, low).expand_as(seen[..., :1, :])
        highest = a.masked_fill(hidden, -torch.inf).amax(-2, keepdim=True)
        return highest.masked_fill(highest == -torch.inf, 0)

    def _pairs(self) -> list[tuple[int, int]]:
        pairs = []
        for text in self.neurons or ():
            layer, _, neuron = text.partition(".")
            if not (layer.isdecimal() and neuron.isdecimal()):
                raise InputError(f"'{text}' is no neuron in registers: write layer.neuron, as 5.120.")
            pairs.append((int(layer), int(neuron)))
        return pairs


class _Watch:
    """Sees to it that the pictures of each prompt went through the tower."""

    def __init__(self, name: str, tokens: TowerTokens) -> None:
        self._name, self._tokens = name, tokens
        self._is_start = False
        self._before = 0  # passes of the tower up to the last prompt

    def begin(self, step: ForwardPass) -> None:
        """A pass of the model; a prompt must come with a picture."""
        self._is_start = step.is_start
        if step.is_start:
            require_image(self._name, step.layout)

    def look(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before the decoder's first layer."""
        if self._is_start and self._tokens.passes == self._before:
            raise InputError(
                f"{self._name} has to see the image go through the vision tower: enter it before the image is encoded, "
                "and give pixels, not features."
            )

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """Attention is no matter."""

    def end(self, step: ForwardPass) -> None:
        """The pass is over."""
        self._is_start = False
        self._before = self._tokens.passes
