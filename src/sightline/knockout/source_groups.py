"""The sources of a prompt: blocks of patches, modalities, images, and positions that are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sightline.errors import InputError
from sightline.knockout.source import Source
from sightline.knockout.words import Piece
from sightline.models.layout import Modality, TokenLayout
from sightline.models.layout.patches import Box, PatchGrid

MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)


def modality_names(layout: TokenLayout, sample: int) -> list[str]:
    """The modality of each position."""
    words = {int(modality): modality.name.lower() for modality in Modality}
    return [words[value] for value in layout.modality[sample].tolist()]


def image_of(layout: TokenLayout, sample: int, place: int) -> int | None:
    """The image whose patches stand around a token that is in no grid, as the newline behind a row of them."""
    for grid in layout.grids[sample]:
        held = grid.positions[grid.positions >= 0]
        if len(held) and int(held.min()) <= place <= int(held.max()) + 1:
            return grid.index
    return None


def blocks_of(grids: Sequence[PatchGrid], chosen: set[int], side: int, pieces: Sequence[Piece]) -> Iterator[Source]:
    """Blocks of side x side patches of each grid; smaller at its right and lower edge."""
    for number, grid in enumerate(grids):
        table = grid.positions.tolist()
        for top in range(0, grid.rows, side):
            for left in range(0, grid.columns, side):
                bottom, right = min(top + side, grid.rows), min(left + side, grid.columns)
                cells = (table[row][col] for row in range(top, bottom) for col in range(left, right))
                positions = tuple(sorted(place for place in cells if place in chosen))
                if not positions:
                    continue
                box = _part(grid, top, left, bottom, right)
                name = grid.modality.name.lower()
                if side == 1:
                    yield Source(
                        positions, pieces[positions[0]].text, name, grid.index, top, left, "token", number, box
                    )
                else:
                    text = f"rows {top}-{bottom - 1}, columns {left}-{right - 1}"
                    yield Source(positions, text, name, grid.index, top, left, "patches", number, box)


def _part(grid: PatchGrid, top: int, left: int, bottom: int, right: int) -> Box | None:
    if grid.box is None:
        return None
    x0, y0, x1, y1 = grid.box
    width, height = (x1 - x0) / grid.columns, (y1 - y0) / grid.rows
    return x0 + left * width, y0 + top * height, x0 + right * width, y0 + bottom * height


def modality_sources(layout: TokenLayout, wanted: Sequence[int], sample: int) -> tuple[Source, ...]:
    """Each modality as one; then each image alone, where there are several."""
    found = []
    chosen, names = set(wanted), modality_names(layout, sample)
    for modality in MODALITIES:
        name = modality.name.lower()
        mine = tuple(place for place in wanted if names[place] == name)
        if not mine:
            continue
        images = sorted({grid.index for grid in layout.grids[sample] if grid.modality is modality})
        only = images[0] if len(images) == 1 else None
        found.append(Source(mine, f"all {name}", name, only, kind="modality"))
        for index in images if len(images) > 1 else ():
            grids = [grid for grid in layout.grids[sample] if grid.modality is modality and grid.index == index]
            held = {place for grid in grids for place in grid.positions.flatten().tolist()}
            positions = tuple(sorted(held & chosen))
            if positions:
                found.append(Source(positions, f"{name} {index + 1}", name, index, kind="modality"))
    return tuple(found)


def named_sources(
    layout: TokenLayout,
    pieces: Sequence[Piece],
    row: int,
    groups: Sequence[int | tuple[int, ...]],
    sample: int,
) -> tuple[Source, ...]:
    """Positions and groups of them that are named one by one; InputError for one that the row cannot see."""
    names = modality_names(layout, sample)
    known = {
        source.position: source for source in blocks_of(layout.grids[sample], set(range(layout.length)), 1, pieces)
    }
    found = []
    for group in groups:
        positions = tuple(sorted({group} if isinstance(group, int) else set(group)))
        if not positions:
            raise InputError("One of the groups of positions is empty: name at least one position in each.")
        for place in positions:
            _require_hidable(layout, row, place, sample)
        kinds = {names[place] for place in positions}
        if len(positions) == 1:
            place = positions[0]
            plain = Source(positions, pieces[place].text, names[place], image_of(layout, sample, place))
            found.append(known.get(place, plain))
            continue
        text = " ".join(pieces[place].text for place in positions) if kinds == {"text"} else f"{len(positions)} tokens"
        images = {known[place].image if place in known else None for place in positions}
        image = images.pop() if len(images) == 1 else None
        found.append(Source(positions, text, kinds.pop() if len(kinds) == 1 else "mixed", image))
    return tuple(found)


def _require_hidable(layout: TokenLayout, row: int, place: int, sample: int) -> None:
    if not 0 <= place < layout.length:
        raise InputError(f"The position {place} is outside the prompt, whose positions are 0 to {layout.length - 1}.")
    if place > row:
        raise InputError(
            f"The position {place} stands after the row {row}, which cannot see it: name positions up to {row}."
        )
    if int(layout.modality[sample, place]) == Modality.PADDING:
        raise InputError(f"The position {place} is padding, which no row sees: name another.")
