"""A layout given by hand, for a model that does not say where its image tokens are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.errors import LayoutError
from sightline.models.layout.patches import Modality, PatchGrid
from sightline.models.layout.token_layout import TokenLayout, present_positions

_NAMES = {modality.name.lower(): modality for modality in Modality if modality is not Modality.PADDING}
Range = tuple[int, int | None]


@dataclass(frozen=True)
class GivenLayout:
    """Ranges of positions by modality, counted from the first position that is not padding.

    Attributes:
        ranges: (modality, start, end), the end exclusive; a negative place counts from the end of the prompt, and an
            end of None is the end itself.
        shape: rows and columns of each image range's patches, where they are known.
        source: what to call it in an error.
    """

    ranges: tuple[tuple[Modality, int, int | None], ...]
    shape: tuple[int, int] | None = None
    source: str = "The layout"

    def fit(self, inputs: Mapping[str, Any]) -> TokenLayout:
        """The layout of a batch; LayoutError where ranges overlap, leave a gap or run over the end of a prompt."""
        ids = inputs.get("input_ids")
        if ids is None:
            raise LayoutError("The inputs have no input_ids: give input_ids.")
        present = present_positions(inputs, ids)
        modality = torch.full(present.shape, int(Modality.PADDING), dtype=torch.int8)
        grids = []
        for row, there in zip(modality, present, strict=True):
            places = there.nonzero()[:, 0]
            kinds, spans = self._fill(len(places))
            row[places] = kinds
            grids.append(self._grids(places, spans))
        first = present & (present.long().cumsum(1) == 1)
        return TokenLayout(modality, int(ids.shape[1]), tuple(grids), first & (modality == Modality.TEXT))

    def _fill(self, length: int) -> tuple[Tensor, list[tuple[Modality, int, int]]]:
        kinds = torch.zeros(length, dtype=torch.int8)
        spans = []
        for modality, start, end in self.ranges:
            first = start + length if start < 0 else start
            last = length if end is None else end + length if end < 0 else end
            named = f"{modality.name.lower()} [{start}, {'null' if end is None else end}]"
            if not 0 <= first < last <= length:
                raise LayoutError(f"{self.source} puts {named} outside of a prompt of {length} positions.")
            if kinds[first:last].any():
                taken = int(kinds[first:last].nonzero()[0]) + first
                other = Modality(int(kinds[taken])).name.lower()
                raise LayoutError(f"{self.source} gives position {taken} to {other} and again to {named}.")
            kinds[first:last] = int(modality)
            spans.append((modality, first, last))
        gaps = (kinds == 0).nonzero()[:, 0]
        if len(gaps):
            raise LayoutError(
                f"{self.source} leaves position {int(gaps[0])} of {length} to nothing: every position needs a range "
                "(an end of null is the end of the prompt)."
            )
        return kinds, spans

    def _grids(self, places: Tensor, spans: list[tuple[Modality, int, int]]) -> tuple[PatchGrid, ...]:
        if self.shape is None:
            return ()
        images = sorted((start, end) for modality, start, end in spans if modality is Modality.IMAGE)
        rows, columns = self.shape
        for start, end in images:
            if end - start != rows * columns:
                raise LayoutError(
                    f"{self.source} has an image of {end - start} positions and a grid of {rows} x {columns}."
                )
        return tuple(
            PatchGrid(Modality.IMAGE, index, places[start:end].reshape(rows, columns))
            for index, (start, end) in enumerate(images)
        )


def read_layout(path: str | Path) -> GivenLayout:
    """Read `{"text": [[0, 35], [611, null]], "image": [[35, 611]], "grid": [24, 24]}`; "grid" may be left out.

    Raises:
        LayoutError: when the file is missing, no JSON, or of another form.
    """
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LayoutError(f"The layout file {file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"The layout file {file} is not valid JSON.") from error
    form = f'The layout file {file} must look like {{"text": [[0, 35], [611, null]], "image": [[35, 611]]}}'
    if not isinstance(document, dict):
        raise LayoutError(f"{form}.")
    unknown = sorted(set(document) - set(_NAMES) - {"grid"})
    if unknown or not set(document) & set(_NAMES):
        raise LayoutError(f"{form}: {unknown[0]!r} is no modality." if unknown else f"{form}.")
    ranges = []
    for name in (name for name in document if name in _NAMES):
        listed: list[Any] = document[name] if isinstance(document[name], list) else [document[name]]
        for item in listed:
            if not _is_range(item):
                raise LayoutError(f"{form}: {item!r} under {name!r} is no [start, end].")
            ranges.append((_NAMES[name], item[0], item[1]))
    shape = document.get("grid")
    if shape is not None and not (_is_range(shape) and shape[1] and shape[0] > 0 and shape[1] > 0):
        raise LayoutError(f'{form}: "grid" must be [rows, columns].')
    return GivenLayout(tuple(ranges), tuple(shape) if shape else None, f"The layout file {file}")


def _is_range(item: Any) -> bool:
    return (
        isinstance(item, list) and len(item) == 2 and type(item[0]) is int and (item[1] is None or type(item[1]) is int)
    )
