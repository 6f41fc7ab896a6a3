"""More tokens in a vision tower: they stand behind each picture's patches inside the layers, and nowhere else.

Each layer runs on the patches and the new tokens together; before and behind it the tower has its own tokens alone, so
that what reads its states, its norms, mergers and the projector see the shapes that they know. New tokens begin as
zeros, before the norm of a tower that norms its patches, and have no place in the picture: rotary embeddings turn them
by nothing. Pictures that one row packs have tokens each, which the others do not see.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sightline.attention.hooks import Hooks
from sightline.attention.ownership import is_bypassed
from sightline.errors import InputError, ModelError
from sightline.models.anatomy import Anatomy
from sightline.models.anatomy.vision_layers import (
    first_norm,
    has_class_token,
    has_windows,
    image_tower,
    tower_layers,
)

HIDDEN = -1e4
"""Additive masks are below this where a key may not be seen."""

_STANDING: dict[tuple[int, int], int] = {}
"""By thread and id of the model, how many new tokens each picture has; empty whenever no `with` is open."""


def added_tokens(anatomy: Anatomy) -> int:
    """How many tokens this thread's methods put behind each picture's patches inside the tower's layers."""
    return 0 if is_bypassed(anatomy) else _STANDING.get((get_ident(), id(anatomy.model)), 0)


@dataclass(frozen=True)
class TowerLayer:
    """A layer of the tower, and the last projection of its feed-forward part, whose input are the layer's neurons."""

    block: nn.Module
    projection: nn.Linear


def tower_neurons(name: str, anatomy: Anatomy) -> tuple[TowerLayer, ...]:
    """The tower's layers with their neurons.

    Raises:
        ModelError: for a model without a tower, one with windows, and one whose layers or neurons are not found.
    """
    tower, kind = image_tower(anatomy), type(anatomy.model).__name__
    if tower is None:
        raise ModelError(f"{name} looks into the vision tower, and {kind} has no vision tower.")
    if has_windows(tower):
        raise ModelError(f"{name} needs a tower that sees a picture whole, and that of {kind} looks through windows.")
    found = [TowerLayer(block, _projection(name, kind, block, attention)) for block, attention in tower_layers(tower)]
    if not found:
        raise ModelError(f"{name} can't reach into the layers of the vision tower of {kind}, which are its own.")
    return tuple(found)


def _projection(name: str, kind: str, block: nn.Module, attention: nn.Module) -> nn.Linear:
    inside = set(attention.modules())
    linears = [part for part in block.modules() if isinstance(part, nn.Linear) and part not in inside]
    if len(linears) < 2 or linears[-1].out_features != linears[0].in_features:
        raise ModelError(f"{name} finds no neurons in the layers of the vision tower of {kind}.")
    return linears[-1]


@dataclass(frozen=True)
class Pictures:
    """How the tokens of one pass stand, the new ones among them.

    Attributes:
        order: of each place, the token there: below `patches` one of the tower's own, from there on a new one.
        picture: of each place, the number of its picture in the row.
        is_new: the places of new tokens.
        is_class: those of class tokens.
        present: which of a row's places are no padding, [rows, places]; None where all are.
        sizes: tokens of the tower for each picture of a row, its class token among them.
    """

    order: Int[Tensor, " places"]
    picture: Int[Tensor, " places"]
    is_new: Bool[Tensor, " places"]
    is_class: Bool[Tensor, " places"]
    present: Bool[Tensor, "rows places"] | None
    sizes: tuple[int, ...]

    @property
    def patches(self) -> int:
        """Tokens of the tower in a row."""
        return sum(self.sizes)

    @classmethod
    def of(
        cls,
        sizes: list[int],
        new: int,
        is_class_first: bool,
        present: Bool[Tensor, "rows patches"] | None,
        device: Any,
    ) -> Pictures:
        """From the tokens of each picture of a row."""
        total, places, owners, starts = sum(sizes), [], [], []
        for number, size in enumerate(sizes):
            start = sum(sizes[:number])
            starts.append(start)
            places += [*range(start, start + size), *range(total + number * new, total + (number + 1) * new)]
            owners += [number] * (size + new)
        order = torch.tensor(places, device=device)
        is_new = order >= total
        is_class = torch.isin(order, torch.tensor(starts if is_class_first else [], device=device))
        if present is not None:
            present = torch.cat([present, present.new_ones((len(present), new * len(sizes)))], 1)[:, order]
        return cls(order, torch.tensor(owners, device=device), is_new, is_class, present, tuple(sizes))


Shift = Callable[[int, Float[Tensor, "*rows places neurons"], Pictures], Tensor]
"""From a layer's neurons to what they are instead."""


class TowerTokens:
    """`new` tokens of zeros for each picture that goes through the tower, and another say on some layers' neurons."""

    def __init__(self, name: str, anatomy: Anatomy, new: int, shift: Shift, shifted: tuple[int, ...]) -> None:
        self._name, self._anatomy, self._new, self._shift, self._shifted = name, anatomy, new, shift, shifted
        self._layers = tower_neurons(name, anatomy)
        self._is_class_first = has_class_token(image_tower(anatomy))
        self._norm = first_norm(image_tower(anatomy))
        self._pictures: Pictures | None = None
        self._states: Tensor | None = None
        self.passes = 0
        """How often the tower has run so far."""

    @property
    def pictures(self) -> Pictures | None:
        """How the tokens of the tower's last pass stood; None before the first."""
        return self._pictures

    @contextmanager
    def standing(self, in_bypassed: bool = False) -> Iterator[None]:
        """Inside, the tower has them; in_bypassed: also in passes that are bypassed.

        Raises:
            InputError: where another method has put tokens into the tower.
        """
        if added_tokens(self._anatomy):
            raise InputError(
                f"{self._name} can't act where a method has put tokens into the vision tower already: enter one, with "
                "the neurons of both."
            )
        with Hooks(self._anatomy, in_bypassed) as hooks:
            for number, layer in enumerate(self._layers):
                hooks.shadow(layer.block, "forward", partial(self._widened, number))
                if number in self._shifted:
                    hooks.before(layer.projection, partial(self._neurons, number))
            key = (get_ident(), id(self._anatomy.model))
            _STANDING[key] = _STANDING.get(key, 0) + self._new
            try:
                yield
            finally:
                _STANDING[key] -= self._new
                if not _STANDING[key]:
                    del _STANDING[key]

    def _widened(self, number: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            names = list(inspect.signature(forward).parameters)
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            state: Tensor = given[names[0]]
            if state.dim() not in (2, 3):
                raise self._refusal(f"whose tokens stand in {state.dim() - 1} dimensions")
            if self._layers[number].block.training and getattr(
                self._layers[number].block, "gradient_checkpointing", False
            ):
                raise InputError(f"{self._name} can't act where layers run twice: leave gradient checkpointing out.")
            if number == 0:
                self._begin(state, given)
            pictures, new = self._pictures, self._states
            if pictures is None or new is None or state.shape[-2] != pictures.patches:
                raise self._refusal("whose layers do not run one after the other on the same tokens")
            wide = {name: self._argument(name, value, pictures) for name, value in given.items() if name != names[0]}
            wide[names[0]] = torch.cat([state, new], -2).index_select(-2, pictures.order)
            places = [wide.pop(name) for name in names[: len(args)]]
            output = forward(*places, **wide)
            whole = output if isinstance(output, Tensor) else output[0]
            self._states = whole[..., pictures.is_new, :]
            kept = whole[..., ~pictures.is_new, :]
            return kept if isinstance(output, Tensor) else (kept, *output[1:])

        return run

    def _begin(self, state: Tensor, given: Mapping[str, Any]) -> None:
        """A pass of the tower: which pictures stand in a row, and new tokens, zeros as the patches are normed."""
        sizes, present = [state.shape[-2]], None
        mask, ends = given.get("attention_mask"), given.get("cu_seqlens")
        if isinstance(ends, Tensor):
            sizes = ends.diff().tolist()
        elif isinstance(mask, Tensor) and mask.dim() == 4:
            sizes, present = self._seen(mask)
        self._pictures = Pictures.of(sizes, self._new, self._is_class_first, present, state.device)
        new = state.new_zeros((*state.shape[:-2], self._new * len(sizes), state.shape[-1]))
        self._states = new if self._norm is None or not self._new else self._norm(new)
        self.passes += 1

    def _seen(self, mask: Tensor) -> tuple[list[int], Bool[Tensor, "rows patches"]]:
        """From a mask: the tokens of each picture, whose rows see the same first key; and which are no padding."""
        seen = _visible(mask)
        present = seen.any(1)
        first = torch.where(seen.any(-1), seen.int().argmax(-1), -1).cummax(-1).values
        if not bool((first != first[:, :1]).any()):
            return [mask.shape[-1]], present
        if bool((first != first[:1]).any()):
            raise self._refusal("which packs pictures of several sizes into rows")
        sizes = torch.unique_consecutive(first[0], return_counts=True)[1].tolist()
        return sizes, present

    def _argument(self, name: str, value: Any, pictures: Pictures) -> Any:
        """What a layer is given beside its states, for the new tokens as well."""
        more = len(pictures.order) - pictures.patches
        if name == "cu_seqlens" and isinstance(value, Tensor):
            return value + self._new * torch.arange(len(value), device=value.device, dtype=value.dtype)
        if name == "max_seqlen" and value is not None:
            return value + self._new
        if name == "position_embeddings" and isinstance(value, tuple) and len(value) == 2:
            cos, sin = value
            if cos.shape[-2] == pictures.patches:
                still = cos.new_ones((*cos.shape[:-2], more, cos.shape[-1]))
                none = torch.zeros_like(still)
                return tuple(
                    torch.cat([part, rest], -2).index_select(-2, pictures.order)
                    for part, rest in ((cos, still), (sin, none))
                )
        if name == "position_ids" and isinstance(value, Tensor) and value.shape[:2][1:] == (pictures.patches,):
            rest = value.new_zeros((value.shape[0], more, *value.shape[2:]))
            return torch.cat([value, rest], 1)[:, pictures.order]
        if name == "position_ids" and isinstance(value, Tensor) and value.shape[:1] == (pictures.patches,):
            return torch.cat([value, value.new_zeros((more, *value.shape[1:]))])[pictures.order]
        if name == "attention_mask" and isinstance(value, Tensor) and value.dim() == 4:
            return _widened_mask(value, pictures)
        parts = value if isinstance(value, tuple | list) else [value]
        if any(isinstance(part, Tensor) and pictures.patches in part.shape for part in parts):
            raise self._refusal(f"whose layers take `{name}`, where a new token has no part")
        return value

    def _neurons(self, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Before the last projection of a feed-forward part."""
        pictures = self._pictures
        (neurons,) = args
        if pictures is None or neurons.shape[-2] != len(pictures.order):
            raise self._refusal("whose feed-forward parts do not run on the tokens as they stand")
        return (self._shift(number, neurons, pictures),), kwargs

    def _refusal(self, why: str) -> ModelError:
        kind = type(self._anatomy.model).__name__
        return ModelError(f"{self._name} can't give another token to the vision tower of {kind}, {why}.")


def _visible(mask: Tensor) -> Bool[Tensor, "rows queries keys"]:
    seen = mask if mask.dtype == torch.bool else mask > HIDDEN
    return seen.expand(-1, -1, mask.shape[-1], -1)[:, 0]


def _widened_mask(mask: Tensor, pictures: Pictures) -> Tensor:
    """A mask by which the new tokens see their picture, and it sees them."""
    patches, length = pictures.patches, len(pictures.order)
    same = pictures.picture[:, None] == pictures.picture[None]
    present = torch.ones((1, length), dtype=torch.bool, device=mask.device)
    present = present if pictures.present is None else pictures.present
    is_new = pictures.is_new[:, None] | pictures.is_new[None]
    shape = (mask.shape[0], 1, length, length)
    allowed = (same & present[:, None])[:, None].expand(shape)
    index = pictures.order.clamp(max=patches - 1)
    own = mask.expand(-1, -1, patches, -1)[:, :, index][..., index].expand(shape)
    if mask.dtype == torch.bool:
        return torch.where(is_new, allowed, own)
    floor = torch.finfo(mask.dtype).min
    return torch.where(is_new, torch.where(allowed, 0.0, floor).to(mask.dtype), own)
