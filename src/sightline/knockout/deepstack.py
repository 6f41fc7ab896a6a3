"""DeepStack: what the answer would be without the vision features that a model adds after several of its layers.

Qwen3-VL and its kin put image features in the prompt and, beside, add features of earlier tower layers to the image
positions after the first few decoder layers (DeepStack, arXiv 2406.04334). Here each addition is left out, whole or by
patch. The decoder's own arguments are changed on their way in, so the model stays as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention.hooks import Hooks
from sightline.errors import InputError, ModelError
from sightline.knockout.answer import EFFECTS
from sightline.knockout.logits import answer_of, effect_maps, effect_rows, row_logits
from sightline.knockout.source import Source
from sightline.knockout.vision import AnswerEffects, in_batches
from sightline.models.anatomy import Anatomy
from sightline.models.layout import Modality, TokenLayout

WORD = "deepstack"
"""What the decoder's argument is called in every known family, with something behind it."""

POSITIONS = 4096
"""Positions of all rows of a batch together, at most, where the prompt is no longer."""


@dataclass(frozen=True)
class Injections:
    """What the decoder is given to add. layers: after which layers; places: [count] positions that get something."""

    name: str
    layers: tuple[int, ...]
    places: Tensor


def find_injections(anatomy: Anatomy, inputs: Mapping[str, Any]) -> Injections:
    """The additions that a forward pass with these inputs makes; one sample.

    Raises:
        ModelError: for a model that adds no vision features after its layers.
        InputError: for several samples, or a prompt without an image.
    """
    _require_single(inputs)
    if not _takes_injections(anatomy):
        raise ModelError(
            f"{type(anatomy.model).__name__} adds no vision features after its decoder layers: DeepStack is of models "
            "such as Qwen3-VL."
        )
    seen: list[Injections] = []

    def look(_module: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        found = _injections_of(kwargs)
        if found is not None:
            seen.append(found)

    with Hooks(anatomy, in_bypassed=True) as hooks:
        hooks.before(anatomy.decoder, look)
        row_logits(anatomy, inputs)
    if not seen:
        raise InputError("The prompt has no image, so no vision features are added after the layers: give an image.")
    return seen[0]


def deepstack_effects(
    anatomy: Anatomy,
    inputs: Mapping[str, Any],
    layout: TokenLayout,
    sources: Sequence[Source],
    target: str | int = "predicted",
    row: int = -1,
    layers: Sequence[int] | None = None,
) -> AnswerEffects:
    """Leaves out, layer by layer, what is added to the positions of each source, and reads the row's answer.

    The first source is always "all injections", the whole addition of the layer; those after it are the given ones, of
    which only positions that get an addition count. A source that gets none is NaN. layers: after which; by default
    all that add something. Cost: a decoder pass a layer and source, several at a time, and a tower pass a batch.
    """
    found = find_injections(anatomy, inputs)
    wanted = found.layers if layers is None else tuple(layers)
    for layer in wanted:
        if layer not in found.layers:
            listed = ", ".join(map(str, found.layers))
            raise InputError(f"Nothing is added after layer {layer}: this model adds vision features after {listed}.")
    places = found.places.tolist()
    grids = layout.grids[0]
    only = grids[0].index if len({grid.index for grid in grids}) == 1 else None
    names = {Modality(int(layout.modality[0, place])).name.lower() for place in places}
    modality = names.pop() if len(names) == 1 else "mixed"
    whole = Source(tuple(places), "all injections", modality, only, kind="modality")
    chosen = (whole, *sources)
    slots = {place: slot for slot, place in enumerate(places)}
    hit = [[slots[place] for place in source.positions if place in slots] for source in chosen]
    before = row_logits(anatomy, inputs, row)[0]
    answer = answer_of(before, target)
    variants = [(layer, slot) for layer in wanted for slot in hit if slot]
    size = max(1, POSITIONS // int(inputs["input_ids"].shape[1]))

    def run(part: slice) -> Tensor:
        with Hooks(anatomy, in_bypassed=True) as hooks:
            hooks.before(anatomy.decoder, _leaver(found.name, variants[part]))
            return effect_rows(answer, row_logits(anatomy, inputs, row))

    after = effect_maps(in_batches(len(variants), size, run), len(wanted), -1)
    known = torch.tensor([bool(slot) for slot in hit])
    maps = {}
    for name in EFFECTS:
        values = torch.full((len(wanted), len(chosen)), torch.nan, dtype=torch.float64)
        values[:, known] = after[name]
        maps[name] = values
    return AnswerEffects(chosen, maps, answer.baseline(), layers=wanted)


def _takes_injections(anatomy: Anatomy) -> bool:
    return any(name.startswith(WORD) for name in inspect.signature(anatomy.decoder.forward).parameters)


def _require_single(inputs: Mapping[str, Any]) -> None:
    ids = inputs.get("input_ids")
    if ids is None or ids.shape[0] != 1:
        count = "no" if ids is None else ids.shape[0]
        raise InputError(f"DeepStack's injections are read on one prompt, and the inputs have {count}: give one.")


def _injections_of(kwargs: Mapping[str, Any]) -> Injections | None:
    for name, value in kwargs.items():
        if name.startswith(WORD) and value is not None and len(value):
            layers = tuple(sorted(value)) if isinstance(value, Mapping) else tuple(range(len(value)))
            count = int(value[layers[0]].shape[0])
            for mask in kwargs.values():
                if isinstance(mask, Tensor) and mask.dtype == torch.bool and int(mask.sum()) == count:
                    return Injections(name, layers, mask.reshape(-1).nonzero()[:, 0].cpu())
    return None


def _leaver(name: str, variants: Sequence[tuple[int, list[int]]]) -> Any:
    """A hook that runs the decoder on a copy of the prompt for each variant, each without some of its additions."""
    count = len(variants)

    def leave(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = kwargs[name]
        numbers = sorted(given) if isinstance(given, Mapping) else range(len(given))
        copies = {}
        for layer in numbers:
            features = given[layer].unsqueeze(0).repeat(count, *(1 for _ in given[layer].shape))
            for variant, (left_out, slots) in enumerate(variants):
                if left_out == layer:
                    features[variant, slots] = 0
            copies[layer] = features.flatten(0, 1)
        changed = {key: _repeated(value, count) for key, value in kwargs.items() if key != name}
        changed[name] = copies if isinstance(given, Mapping) else [copies[layer] for layer in numbers]
        return tuple(_repeated(value, count) for value in args), changed

    return leave


def _repeated(value: Any, count: int) -> Any:
    """An argument of the decoder for `count` copies of its one sample; positions may have their axes in front."""
    if isinstance(value, Mapping):
        return {key: _repeated(inner, count) for key, inner in value.items()}
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if value.shape[0] == 1:
        return value.repeat_interleave(count, 0)
    if value.dim() == 3 and value.shape[1] == 1:
        return value.repeat_interleave(count, 1)
    return value
