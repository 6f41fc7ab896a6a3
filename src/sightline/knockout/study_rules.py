"""Which settings of a `Study` go together, and the sentences that refuse the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Literal, get_args

from sightline.errors import InputError

Mode = Literal[
    "local", "causal", "vision", "tower", "deepstack", "patch",
    "relevancy", "rollout", "gradient", "lens", "locate", "registers",
]  # fmt: skip
Scope = Literal["row", "every-row"]

MODES: tuple[str, ...] = get_args(Mode)
SCOPES: tuple[str, ...] = get_args(Scope)

Among = Literal["same", "other"]

Fill = Literal["gray", "blur", "mean"]
FILLS: tuple[str, ...] = get_args(Fill)

Estimate = Literal["none", "gradient"]
ESTIMATES: tuple[str, ...] = get_args(Estimate)

Part = Literal["layer", "attention", "mlp"]
PARTS: tuple[str, ...] = get_args(Part)


def group(entry: Any) -> int | tuple[int, ...]:
    """A position, or positions that are hidden together."""
    if hasattr(entry, "__index__"):
        return int(entry)
    places = listing("positions of a group", entry)
    for place in places:
        require_whole("position", place)
    return places


def require_whole(what: str, value: Any) -> None:
    """Also numpy's whole numbers are taken."""
    if not hasattr(value, "__index__"):
        raise InputError(f"The {what} is {value!r}: give a whole number.")


def listing(what: str, entries: Any) -> tuple[Any, ...]:
    """A list's entries; InputError for what is none."""
    if not isinstance(entries, Iterable) or isinstance(entries, str):
        raise InputError(f"The {what} are {entries!r}: give a list of whole numbers.")
    return tuple(entries)


def require_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """InputError for a word that is none of the choices."""
    if value not in choices:
        raise InputError(f"There is no {what} called '{value}'; use {_listed(choices)}.")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


READ = ("relevancy", "rollout", "gradient", "lens", "locate")
"""Modes that change nothing."""

ONLY: dict[str, tuple[str, ...]] = {
    "tokens": ("local", "causal", "patch", *READ),
    "unit": ("local", "causal", "deepstack", "patch", *READ),
    "positions": ("local", "causal", "deepstack", "patch", *READ),
    "row": ("local", "causal", "deepstack"),
    "layers": (
        "local",
        "causal",
        "tower",
        "deepstack",
        "patch",
        "relevancy",
        "rollout",
        "gradient",
        "lens",
        "registers",
    ),
    "target": ("local", "causal", "vision", "tower", "deepstack", "patch", "relevancy", "gradient", "lens"),
    "other": ("patch",),
    "other_prompt": ("patch",),
    "part": ("patch",),
    "window": ("causal", "tower"),
    "scope": ("causal",),
    "per_head": ("local",),
    "new_tokens": ("local", "causal"),
    "control": ("local", "causal", "vision"),
    "fill": ("vision",),
    "reference": ("causal",),
    "estimate": ("causal",),
}
"""Settings that only some modes have."""

OF_HEADS = ("mode", "unit", "layers", "target")
"""Settings of the unit head, which is of the mode causal."""


def is_of(study: Any, name: str) -> bool:
    """Whether the numbers of a study depend on this setting."""
    if study.unit == "head":
        return name in OF_HEADS
    return study.mode in ONLY.get(name, (study.mode,))


def refuse_idle(study: Any) -> None:
    """InputError for a setting that this study would pass over in silence."""
    for each in fields(study):
        modes = ONLY.get(each.name, (study.mode,))
        if getattr(study, each.name) != each.default and study.mode not in modes:
            listed = f"mode {modes[0]}" if len(modes) == 1 else f"modes {', '.join(modes[:-1])} and {modes[-1]}"
            raise InputError(
                f"The mode {study.mode} has no setting {each.name}, which is of the {listed}: leave it out."
            )
    if study.unit == "head" and study.mode != "causal":
        raise InputError("Heads are taken away in the mode causal: leave the mode out, or the unit head.")
    if study.unit == "head":
        idle = next(
            (
                each.name
                for each in fields(study)
                if each.name not in (*OF_HEADS, "seed", "reference") and getattr(study, each.name) != each.default
            ),
            None,
        )
        if idle is not None:
            raise InputError(f"The unit head has no setting {idle}: leave it out, or choose another unit.")
    if study.estimate != "none" and study.scope != "row":
        raise InputError(f"There is no estimate for the scope {study.scope}: leave the scope out, or the estimate.")
    if study.mode == "patch" and study.other is None and study.other_prompt is None:
        raise InputError("The mode patch needs a pair: give the other picture (other), or the other prompt.")
    if study.row == "all" and study.mode != "local":
        raise InputError(f"The mode {study.mode} reads one row: give a position or last; all rows are of local maps.")
    if study.new_tokens is not None and study.row != "last":
        raise InputError("New tokens are followed from the last row on: leave the row out, or the new tokens.")
