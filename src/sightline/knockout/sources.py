"""What is hidden from a row: single tokens, words, blocks of patches, whole modalities, and as many random tokens.

A source is a group of positions that is hidden as one. Sources of one map may overlap; each stands for itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from sightline.errors import InputError
from sightline.knockout.words import Piece, words_of
from sightline.models.layout import Modality, TokenLayout
from sightline.models.layout.patches import Box, PatchGrid

Tokens = Literal["text", "image", "all"]
Unit = Literal["token", "word", "patches", "modality", "head"]
Among = Literal["same", "other"]

TOKENS: tuple[str, ...] = get_args(Tokens)
UNITS: tuple[str, ...] = get_args(Unit)

BLOCK = 2
"""Rows and columns of patches in a block, where none are asked for."""


@dataclass(frozen=True)
class Source:
    """Positions that are hidden together.

    Attributes:
        positions: ascending, without repeats; none for a part of the picture that no token is known to show.
        text: the token or word; for a block its rows and columns; for a modality its name.
        modality: "text", "image", "video", "audio", "mixed" where positions of several were named, or "head".
        image: which image (or video) of the sample, from 0, where it is of one.
        row, col: of the patch in its grid, of a block its first ones; None where there is no grid.
        kind: "token", "word", "patches", "modality", "head", or "control" (random tokens).
        grid: which patch grid of the layout `row` and `col` belong to; an image of several tiles has several.
        box: the part of the picture that it shows, (left, top, right, bottom) as shares of its sides, where known.
    """

    positions: tuple[int, ...]
    text: str = ""
    modality: str = "text"
    image: int | None = None
    row: int | None = None
    col: int | None = None
    kind: str = "token"
    grid: int | None = None
    box: Box | None = None

    @property
    def position(self) -> int | None:
        """The first position; a single token's own."""
        return self.positions[0] if self.positions else None

    def to_dict(self) -> dict[str, object]:
        """As it stands under "tokens" in the JSON document."""
        return {
            "position": self.position,
            "positions": list(self.positions),
            "text": self.text,
            "modality": self.modality,
            "image": self.image,
            "row": self.row,
            "col": self.col,
            "kind": self.kind,
            "grid": self.grid,
            "box": None if self.box is None else list(self.box),
        }


@dataclass(frozen=True)
class Selection:
    """Which sources a map has.

    Attributes:
        tokens: "text", "image" (whatever is no text: images, video, sound) or "all".
        unit: "token": each token alone; "word": the tokens of a word together; "patches": blocks of patches, which
            leaves out image tokens that are in no grid, such as the newlines between rows; "modality": everything of a
            modality, and each image where there are several. "head" is no group of tokens: see `head_maps`.
        block: rows and columns of patches in a block; above 1 it makes blocks under "token" and "word" too.
        positions: these alone instead, each in the unit "token"; or tuples of positions, each hidden as one.
    """

    tokens: Tokens = "all"
    unit: Unit = "token"
    block: int | None = None
    positions: tuple[int | tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.tokens not in TOKENS:
            raise InputError(f"There are no tokens called '{self.tokens}'; use {', '.join(TOKENS[:-1])} or all.")
        if self.unit not in UNITS:
            raise InputError(f"There is no unit called '{self.unit}'; use {', '.join(UNITS[:-1])} or head.")
        if self.block is not None and self.block < 1:
            raise InputError(f"A block of {self.block} x {self.block} patches has none: give a block of at least 1.")
        if self.block is not None and self.unit == "modality":
            raise InputError("A whole modality has no blocks: leave the block out, or use the unit patches.")
        if self.positions is not None and not self.positions:
            raise InputError("There are no positions to hide: name at least one.")
        seen: set[frozenset[int]] = set()
        for group in self.positions or ():
            places = frozenset({group} if isinstance(group, int) else group)
            if places in seen:
                told = "+".join(map(str, sorted(places)))
                raise InputError(f"The positions to hide name {told} twice: name each source once.")
            seen.add(places)

    @property
    def side(self) -> int:
        """Rows and columns of patches that are hidden as one."""
        return self.block or (BLOCK if self.unit == "patches" else 1)


def find_row(layout: TokenLayout, row: str | int, sample: int = 0) -> int:
    """The position of the row: "last" is the last that is not padding; negative numbers count from the end.

    Raises:
        InputError: when it is outside the prompt, or padding.
    """
    present = layout.positions(sample, *_MODALITIES).tolist()
    if not present:
        raise InputError("The prompt is all padding, so there is no row to look at.")
    if row == "last":
        return int(present[-1])
    if not isinstance(row, int) or isinstance(row, bool):
        raise InputError(f"The row {row!r} is no position: give a number, or last.")
    place = row + layout.length if row < 0 else row
    if not 0 <= place < layout.length:
        raise InputError(f"The row {row} is outside the prompt, whose positions are 0 to {layout.length - 1}.")
    if place not in present:
        raise InputError(f"The row {row} is padding: give one of {present[0]} to {present[-1]}, or last.")
    return place


def find_sources(
    layout: TokenLayout,
    pieces: Sequence[Piece],
    row: int,
    selection: Selection | None = None,
    sample: int = 0,
) -> tuple[Source, ...]:
    """The sources of one row, in the order of their first positions.

    Args:
        layout: of the prompt; tokens generated since are text.
        pieces: what stands at each position, see `pieces_of`.
        row: whose view is looked at; by default every earlier position that is not padding is a source. A position
            that is named may be the row itself.

    Raises:
        InputError: for a position behind the row, outside the prompt or in the padding, and where nothing is left.
    """
    selection = selection or Selection()
    if selection.positions is not None:
        return _named(layout, pieces, row, selection.positions, sample)
    before = [place for place in layout.positions(sample, *_MODALITIES).tolist() if place < row]
    if not before:
        raise InputError(f"Nothing stands before the row {row}, so nothing can be hidden from it: give a later row.")
    names = _names(layout, sample)
    wanted = [place for place in before if _is_wanted(names[place], selection.tokens)]
    if not wanted:
        raise InputError(f"There is no {selection.tokens} token before the row {row}: choose other tokens.")
    if selection.unit == "modality":
        return _modalities(layout, wanted, sample)
    text = [place for place in wanted if names[place] == "text"]
    chosen = set(wanted)
    if selection.unit == "word":
        found = [
            Source(word, "".join(pieces[place].text for place in word).strip() or pieces[word[0]].text, kind="word")
            for word in words_of([(place, pieces[place]) for place in text])
        ]
    else:
        found = [Source((place,), pieces[place].text) for place in text]
    blocks = list(_blocks(layout.grids[sample], chosen, selection.side, pieces))
    held = {place for source in blocks for place in source.positions}
    rest = sorted(chosen - held - set(text))
    if selection.unit != "patches":
        found += [Source((place,), pieces[place].text, names[place], _image(layout, sample, place)) for place in rest]
    if not found and not blocks:
        raise InputError(
            f"The {len(rest)} image tokens have no known rows and columns, so there are no blocks of patches: "
            "use the unit token."
        )
    return tuple(sorted([*found, *blocks], key=lambda source: source.positions))


def find_controls(
    layout: TokenLayout,
    sources: Sequence[Source],
    row: int,
    draws: int,
    seed: int = 0,
    among: Among = "same",
    sample: int = 0,
) -> tuple[Source, ...]:
    """Random groups to hold beside the sources: for each modality and size that a source has, `draws` of that size.

    Positions are drawn without repeats from those before the row that no source has, or from all before the row where
    too few are free. among: of the source's own modality, or of the others. Where the modality has no more tokens than
    the source, the draw is from every modality; where all of them are too few, there is no control of that size.
    """
    if draws < 0:
        raise InputError(f"{draws} random controls are none: give at least 1, or 0 for none.")
    generator = random.Random(f"control/{seed}")
    before = [place for place in layout.positions(sample, *_MODALITIES).tolist() if place < row]
    names = _names(layout, sample)
    taken = {place for source in sources for place in source.positions}
    found = []
    for modality, size in sorted({(source.modality, len(source.positions)) for source in sources}):
        of_kind = [place for place in before if (names[place] == modality) == (among == "same")]
        pools = ([place for place in of_kind if place not in taken], of_kind, before)
        # A control that can only be the source itself says nothing.
        least = (size, size + 1 if among == "same" else size, size + 1)
        pool = next((pool for pool, need in zip(pools, least, strict=True) if len(pool) >= need), None)
        for draw in range(draws if pool else 0):
            positions = tuple(sorted(generator.sample(pool or [], size)))
            found.append(Source(positions, f"{size} random, draw {draw + 1}", modality, kind="control"))
    return tuple(found)


_MODALITIES = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.AUDIO)


def _names(layout: TokenLayout, sample: int) -> list[str]:
    """The modality of each position."""
    words = {int(modality): modality.name.lower() for modality in Modality}
    return [words[value] for value in layout.modality[sample].tolist()]


def _is_wanted(name: str, tokens: str) -> bool:
    return tokens == "all" or (name == "text") == (tokens == "text")


def _image(layout: TokenLayout, sample: int, place: int) -> int | None:
    """The image whose patches stand around a token that is in no grid, as the newline behind a row of them."""
    for grid in layout.grids[sample]:
        held = grid.positions[grid.positions >= 0]
        if len(held) and int(held.min()) <= place <= int(held.max()) + 1:
            return grid.index
    return None


def _blocks(grids: Sequence[PatchGrid], chosen: set[int], side: int, pieces: Sequence[Piece]) -> Iterator[Source]:
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


def _modalities(layout: TokenLayout, wanted: Sequence[int], sample: int) -> tuple[Source, ...]:
    """Each modality as one; then each image alone, where there are several."""
    found = []
    chosen, names = set(wanted), _names(layout, sample)
    for modality in _MODALITIES:
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


def _named(
    layout: TokenLayout,
    pieces: Sequence[Piece],
    row: int,
    groups: Sequence[int | tuple[int, ...]],
    sample: int,
) -> tuple[Source, ...]:
    names = _names(layout, sample)
    known = {source.position: source for source in _blocks(layout.grids[sample], set(range(layout.length)), 1, pieces)}
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
            plain = Source(positions, pieces[place].text, names[place], _image(layout, sample, place))
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
