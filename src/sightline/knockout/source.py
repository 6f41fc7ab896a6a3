"""A source: positions that are hidden as one; and which of them a study chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.models.layout.patches import Box

Tokens = Literal["text", "image", "all"]


Unit = Literal["token", "word", "patches", "modality", "head"]


TOKENS: tuple[str, ...] = get_args(Tokens)
UNITS: tuple[str, ...] = get_args(Unit)


BLOCK = 2
"""Rows and columns of patches in a block, where no number is given."""


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
                names = "+".join(map(str, sorted(places)))
                raise InputError(f"The positions to hide name {names} twice: name each source once.")
            seen.add(places)

    @property
    def side(self) -> int:
        """Rows and columns of patches that are hidden as one."""
        return self.block or (BLOCK if self.unit == "patches" else 1)
