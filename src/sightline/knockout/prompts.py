"""One encoded prompt: its positions, and the rows, layers and groups of positions that a study names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sightline.errors import InputError
from sightline.models.anatomy import Anatomy, find_anatomy


def extended(inputs: Mapping[str, Any], tokens: Tensor) -> dict[str, Any]:
    """Inputs of the prompt with generated tokens behind it. tokens: [1, new]."""
    ids, count = inputs["input_ids"], int(tokens.shape[1])
    grown = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.shape == ids.shape and count:
            # Masks go on with ones; types of tokens with those of text.
            more = tokens.to(value) if name == "input_ids" else torch.full_like(tokens, int("mask" in name)).to(value)
            grown[name] = torch.cat([value, more], 1)
    return grown


def anatomy_of(model: Any) -> Anatomy:
    """The anatomy of a `VLM`, an anatomy or a bare model."""
    known = model if isinstance(model, Anatomy) else getattr(model, "anatomy", None)
    return known if isinstance(known, Anatomy) else find_anatomy(model)


def present_of(inputs: Mapping[str, Any]) -> Tensor:
    """[positions], True where one prompt's inputs are not padding."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    given = ids if ids is not None else inputs.get("inputs_embeds")
    if not isinstance(given, Tensor) or given.dim() < 2:
        raise InputError("The inputs have neither input_ids nor inputs_embeds: encode a prompt first.")
    if given.shape[0] != 1:
        raise InputError(f"Impact reads one prompt at a time, and the inputs have {given.shape[0]}.")
    if isinstance(mask, Tensor) and mask.dim() == 2:
        return mask[0].bool().cpu()
    return torch.ones(given.shape[1], dtype=torch.bool)


def check_row(present: Tensor, row: Literal["last"] | int) -> int:
    """The row's position; "last" is the last that is not padding.

    Raises:
        InputError: for a row that is padding or not there.
    """
    places = present.nonzero()[:, 0].tolist()
    if not places:
        raise InputError("The prompt is all padding, so there is no row to look at.")
    if row == "last":
        return int(places[-1])
    if not isinstance(row, int) or isinstance(row, bool):
        raise InputError(f"'{row}' is no row: give a position, or last.")
    if not 0 <= row < len(present):
        raise InputError(f"There is no row {row} in a prompt of {len(present)} positions.")
    if not present[row]:
        raise InputError(f"Row {row} is padding: choose a position of the prompt.")
    return row


def chosen_layers(layers: Sequence[int] | None, count: int) -> list[int]:
    """The layers chosen, all for None.

    Raises:
        InputError: for none, and one that the decoder has not.
    """
    chosen = list(range(count)) if layers is None else list(layers)
    if not chosen:
        raise InputError("No layers are chosen: name at least one, or leave the layers out for all.")
    wrong = next((layer for layer in chosen if not 0 <= layer < count), None)
    if wrong is not None:
        raise InputError(f"There is no layer {wrong}: the decoder has layers 0 to {count - 1}.")
    return chosen


def check_groups(groups: Sequence[Sequence[int]], present: Tensor, row: int) -> None:
    """InputError for no groups, an empty one, and positions that are padding, after the row or not there."""
    if not len(groups):
        raise InputError("There is nothing to hide: choose at least one source.")
    for number, group in enumerate(groups):
        if not len(group):
            raise InputError(f"Source {number} has no positions: each source needs at least one.")
        low, high = min(group), max(group)
        if low < 0 or high >= len(present):
            wrong = low if low < 0 else high
            raise InputError(f"There is no position {wrong} in a prompt of {len(present)} positions.")
        if high > row:
            raise InputError(f"Position {high} comes after row {row}, which can't see it.")
        padding = next((position for position in group if not present[position]), None)
        if padding is not None:
            raise InputError(f"Position {padding} is padding, which no row sees: choose positions of the prompt.")
