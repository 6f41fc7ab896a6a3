"""Tiny random models of every supported family, built in memory, for `pytest.mark.parametrize`.

    @pytest.mark.parametrize("family", FAMILIES, ids=str_of)
    def test_it(family):
        case = family.make_inputs(batch=2, padding="left")
        family.model()(**case.inputs)

`case.inputs` is what the model's forward takes; `case.modality` and `case.grids` are the truth about it, known from
how the prompt was written and not from the package.
"""

from __future__ import annotations

from support.families import gemma, llava, more, newer, newest, queries, qwen, texts, tiles
from support.families.core import AUDIO, IMAGE, PADDING, TEXT, VIDEO, Case, Family

FAMILIES: list[Family] = [
    *llava.FAMILIES,
    *qwen.FAMILIES,
    *gemma.FAMILIES,
    *tiles.FAMILIES,
    *texts.FAMILIES,
]
"""The families that are promised."""

MORE: list[Family] = [*more.FAMILIES, *queries.FAMILIES, *newer.FAMILIES, *newest.FAMILIES]
"""Families that no rule was written for: what works with these works with a new one."""

EVERY: list[Family] = [*FAMILIES, *MORE]
BY_NAME: dict[str, Family] = {family.name: family for family in EVERY}

__all__ = [
    "AUDIO",
    "BY_NAME",
    "EVERY",
    "FAMILIES",
    "IMAGE",
    "MORE",
    "PADDING",
    "TEXT",
    "VIDEO",
    "Case",
    "Family",
    "str_of",
]


def str_of(family: Family) -> str:
    """A family's name, for pytest's test ids."""
    return family.name
