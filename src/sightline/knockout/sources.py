"""What is hidden from a row: single tokens, words, blocks of patches, whole modalities, and as many random tokens.

A source is a group of positions that is hidden as one. Sources of one map may overlap; each stands for itself.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from sightline.errors import InputError
from sightline.knockout.source import Selection, Source
from sightline.knockout.source_groups import (
    MODALITIES,
    blocks_of,
    image_of,
    modality_names,
    modality_sources,
    named_sources,
)
from sightline.knockout.study_rules import Among
from sightline.knockout.words import Piece, word_positions
from sightline.models.layout import TokenLayout


def find_row(layout: TokenLayout, row: str | int, sample: int = 0) -> int:
    """The position of the row: "last" is the last that is not padding; negative numbers count from the end.

    Raises:
        InputError: when it is outside the prompt, or padding.
    """
    present = layout.positions(sample, *MODALITIES).tolist()
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
        return named_sources(layout, pieces, row, selection.positions, sample)
    before = [place for place in layout.positions(sample, *MODALITIES).tolist() if place < row]
    if not before:
        raise InputError(f"Nothing stands before the row {row}, so nothing can be hidden from it: give a later row.")
    names = modality_names(layout, sample)
    wanted = [place for place in before if _is_wanted(names[place], selection.tokens)]
    if not wanted:
        raise InputError(f"There is no {selection.tokens} token before the row {row}: choose other tokens.")
    if selection.unit == "modality":
        return modality_sources(layout, wanted, sample)
    text = [place for place in wanted if names[place] == "text"]
    chosen = set(wanted)
    if selection.unit == "word":
        found = [
            Source(word, "".join(pieces[place].text for place in word).strip() or pieces[word[0]].text, kind="word")
            for word in word_positions([(place, pieces[place]) for place in text])
        ]
    else:
        found = [Source((place,), pieces[place].text) for place in text]
    blocks = list(blocks_of(layout.grids[sample], chosen, selection.side, pieces))
    held = {place for source in blocks for place in source.positions}
    rest = sorted(chosen - held - set(text))
    if selection.unit != "patches":
        found += [Source((place,), pieces[place].text, names[place], image_of(layout, sample, place)) for place in rest]
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
    before = [place for place in layout.positions(sample, *MODALITIES).tolist() if place < row]
    names = modality_names(layout, sample)
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


def _is_wanted(name: str, tokens: str) -> bool:
    return tokens == "all" or (name == "text") == (tokens == "text")
