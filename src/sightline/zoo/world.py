"""The small world: coloured shapes on a 3 x 3 grid, drawn so that some objects keep company far more often than others.

An object is a `Kind` (a colour and a shape); a `Scene` holds up to nine, each a `SceneObject` in a grid cell. They are
drawn from themes: a theme prefers five of the 25 kinds, and themes differ in how common they are. That gives the
world popular kinds and kinds that co-occur, hence language priors a model can learn instead of looking. Each theme
holds every colour and every shape once, so a prior is about the pair and never about a colour or a shape alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple")
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "cross")
GRID = 3
POSITIONS: tuple[str, ...] = (
    "top left",
    "top middle",
    "top right",
    "middle left",
    "center",
    "middle right",
    "bottom left",
    "bottom middle",
    "bottom right",
)

THEME_WEIGHTS: tuple[float, ...] = (0.34, 0.25, 0.18, 0.13, 0.10)
MEMBER_WEIGHTS: tuple[float, ...] = (0.28, 0.24, 0.20, 0.16, 0.12)
THEME_SHARE = 0.75
REPEAT_SHARE = 0.15
SIZE_WEIGHTS: dict[int, float] = {1: 0.08, 2: 0.20, 3: 0.27, 4: 0.23, 5: 0.14, 6: 0.08}


@dataclass(frozen=True, order=True)
class Kind:
    """A category of object: one colour and one shape, such as "red circle"."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        """The words for it, "red circle"."""
        return f"{self.colour} {self.shape}"

    def __str__(self) -> str:
        return self.name


KINDS: tuple[Kind, ...] = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)

THEMES: tuple[tuple[Kind, ...], ...] = tuple(
    tuple(Kind(colour, SHAPES[(place + theme) % len(SHAPES)]) for place, colour in enumerate(COLOURS))
    for theme in range(len(THEME_WEIGHTS))
)


@dataclass(frozen=True)
class SceneObject:
    """One object in a scene.

    row, column: its grid cell, 0 to 2. scale: its extent as a fraction of the cell. shift: (x, y) offset of its
    centre as a fraction of the cell. shade: factor on its colour's brightness.
    """

    kind: Kind
    row: int
    column: int
    scale: float = 0.8
    shift: tuple[float, float] = (0.0, 0.0)
    shade: float = 1.0

    @property
    def cell(self) -> int:
        """The cell's index in reading order, 0 to 8."""
        return self.row * GRID + self.column

    @property
    def position(self) -> str:
        """The cell's name, "top left"."""
        return POSITIONS[self.cell]


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn: its items in reading order, its background colour, and the seed it came from."""

    items: tuple[SceneObject, ...]
    background: tuple[int, int, int] = (240, 240, 240)
    seed: int | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The distinct kinds, in reading order: the true objects of the picture."""
        return tuple(dict.fromkeys(item.kind for item in self.items))

    def count(self, colour: str | None = None, shape: str | None = None) -> int:
        """How many items have this colour and this shape (None: any)."""
        return sum(colour in (None, item.kind.colour) and shape in (None, item.kind.shape) for item in self.items)

    def at(self, cell: int) -> SceneObject | None:
        """The item in a cell (0 to 8 in reading order), or None."""
        return next((item for item in self.items if item.cell == cell), None)


def _draw_kind(rng: random.Random, theme: int) -> Kind:
    if rng.random() < THEME_SHARE:
        return rng.choices(THEMES[theme], MEMBER_WEIGHTS)[0]
    return rng.choice(KINDS)


def draw_scene(seed: int) -> Scene:
    """The scene of this seed: the same seed is the same scene on every machine."""
    rng = random.Random(f"scene/{seed}")
    theme = rng.choices(range(len(THEMES)), THEME_WEIGHTS)[0]
    size = rng.choices(list(SIZE_WEIGHTS), list(SIZE_WEIGHTS.values()))[0]
    kinds: list[Kind] = []
    while len(kinds) < size:
        if kinds and rng.random() < REPEAT_SHARE:
            kinds.append(rng.choice(kinds))
            continue
        kind = _draw_kind(rng, theme)
        if kind not in kinds:
            kinds.append(kind)
    rng.shuffle(kinds)
    items = tuple(
        SceneObject(
            kind=kind,
            row=cell // GRID,
            column=cell % GRID,
            scale=rng.uniform(0.68, 0.92),
            shift=(rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06)),
            shade=rng.uniform(0.85, 1.1),
        )
        for kind, cell in zip(kinds, sorted(rng.sample(range(GRID * GRID), size)), strict=True)
    )
    grey = rng.randint(215, 255)
    return Scene(items=items, background=(grey, grey, grey), seed=seed)


def draw_scenes(count: int, seed: int) -> Iterator[Scene]:
    """`count` scenes; two different seeds (0 to a million) share no scene as long as count stays below a million."""
    start = seed * 1_000_000
    return (draw_scene(index) for index in range(start, start + count))


@dataclass(frozen=True)
class Cooccurrence:
    """How often kinds are seen, and seen together, in a set of scenes.

    seen[kind]: scenes that hold it. together[a, b]: scenes that hold both (a != b, both orders stored).
    """

    scenes: int
    seen: dict[Kind, int]
    together: dict[tuple[Kind, Kind], int]

    @classmethod
    def of(cls, scenes: Iterable[Scene]) -> Cooccurrence:
        """Counts the kinds of these scenes; a kind seen twice in one scene counts once."""
        total = 0
        seen = dict.fromkeys(KINDS, 0)
        together = {(a, b): 0 for a in KINDS for b in KINDS if a != b}
        for scene in scenes:
            total += 1
            for a in scene.kinds:
                seen[a] += 1
                for b in scene.kinds:
                    if a != b:
                        together[a, b] += 1
        return cls(scenes=total, seen=seen, together=together)

    def company(self, kind: Kind, scene: Scene) -> int:
        """How often `kind` was seen together with the kinds of this scene, summed over them."""
        return sum(self.together[kind, other] for other in scene.kinds if other != kind)


@lru_cache(maxsize=1)
def world_table() -> Cooccurrence:
    """The table of the world itself, counted once over 4,000 scenes of a seed of their own."""
    return Cooccurrence.of(draw_scenes(4000, seed=999_983))


NEGATIVES: tuple[str, ...] = ("random", "popular", "adversarial")


def negatives(
    scene: Scene, count: int, how: str, rng: random.Random, table: Cooccurrence | None = None
) -> tuple[Kind, ...]:
    """Kinds that are not in the scene, chosen the three ways of POPE (arXiv 2305.10355).

    how: "random", any absent kind; "popular", the absent kinds seen most in the world; "adversarial", the absent
    kinds seen most in the company of what is in the scene. table: the co-occurrence to go by, the world's own by
    default.
    """
    absent = [kind for kind in KINDS if kind not in scene.kinds]
    if how == "random":
        return tuple(rng.sample(absent, count))
    counts = table if table is not None else world_table()
    if how == "popular":
        return tuple(sorted(absent, key=lambda kind: -counts.seen[kind])[:count])
    if how == "adversarial":
        return tuple(sorted(absent, key=lambda kind: -counts.company(kind, scene))[:count])
    raise ValueError(f"unknown kind of negatives {how!r}: one of {', '.join(NEGATIVES)}")
