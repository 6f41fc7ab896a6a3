"""What benchmarks share whose items are scored in groups: pairs, sets, an image's questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sightline.benchmarks.base import Item, Verdict


def judged_groups(
    items: Iterable[Item], judgements: Mapping[str, Verdict], key: Callable[[Item], str | None]
) -> dict[str, list[tuple[Item, Verdict]]]:
    """The judged items by group, in their order; those whose key is None are in none."""
    found: dict[str, list[tuple[Item, Verdict]]] = {}
    for item in items:
        name = key(item)
        if name is not None and item.id in judgements:
            found.setdefault(name, []).append((item, judgements[item.id]))
    return found


def all_right(group: Iterable[tuple[Item, Verdict]]) -> bool:
    """Whether every answer of a group is right."""
    return all(verdict.right for _, verdict in group)


def share(part: float, whole: float) -> float | None:
    """A share, None of nothing."""
    return part / whole if whole else None


def unread(judgements: Iterable[Verdict]) -> int:
    """How many answers have no label."""
    return sum(verdict.parsed is None for verdict in judgements)


def text(value: Any) -> str:
    """A table's cell as text, "" where there is nothing."""
    return "" if value is None else str(value).strip()
