"""How much of a gain goes with the yes ratio: what as many blind changes of answers would have brought (2504.10020).

b's answers have T more yes than a's. T answers of a, drawn blindly among its no, turned to yes, gain on average

    T (2 q - 1) / n          q: share of yes among the truths of a's no answers

and T fewer yes alike, with q the share of no among the truths of a's yes answers. What lies above it, b must have seen.
It is a least: a method that turns its doubtful answers first gains more than blindly, and has seen no more. For that
part the control `yes_bias` stands beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.benchmarks.base import Item, Verdict

YES, NO = "yes", "no"


def tilt_of(items: Sequence[Item], a: Mapping[str, Verdict], b: Mapping[str, Verdict]) -> dict[str, float | int] | None:
    """Of the yes/no items that both sides answered in a word; None where there are none.

    {"items", "yes_ratio_a", "yes_ratio_b", "gain", "with_yes_ratio"}: the gain in accuracy over these items, and the
    part of it that blind changes would bring, as shares.
    """
    both = [
        (item.truth, a[item.id].parsed, b[item.id].parsed)
        for item in items
        if item.truth in (YES, NO) and item.id in a and item.id in b
    ]
    known = [entry for entry in both if {entry[1], entry[2]} <= {YES, NO}]
    if not known:
        return None
    n = len(known)
    more = sum((now == YES) - (before == YES) for _, before, now in known)
    word, other = (NO, YES) if more >= 0 else (YES, NO)
    turned = [truth for truth, before, _ in known if before == word]
    share = sum(truth == other for truth in turned) / len(turned) if turned else 0.0
    return {
        "items": n,
        "yes_ratio_a": sum(before == YES for _, before, _ in known) / n,
        "yes_ratio_b": sum(now == YES for *_, now in known) / n,
        "gain": sum((now == truth) - (before == truth) for truth, before, now in known) / n,
        "with_yes_ratio": abs(more) * (2 * share - 1) / n,
    }
