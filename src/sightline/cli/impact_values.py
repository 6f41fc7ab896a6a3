"""How the lists of `sightline impact` are written on the command line, and the prompts that it is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.cli.options import Images, given_sample
from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.jobs.impact_config import Request


def _row(text: str) -> str | int:
    return text if text in ("last", "all") else _integer(text, "a position, last or all")


def _target(text: str) -> str | int:
    """An id, or a word; predicted is one of its own."""
    return int(text) if re.fullmatch(r"-?\d{1,9}", text) else text


def _integer(text: str, wanted: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ValueError(f"{text!r} is not {wanted}")
    return int(text)


def _layers(text: str) -> tuple[int, ...]:
    """ "0,4-7" as (0, 4, 5, 6, 7)."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f"{part!r} is no layer: write 0,4-7")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(dict.fromkeys(found))


def _positions(text: str) -> Any:
    """ "3,7,10+11" as (3, 7, (10, 11)): what a plus joins is hidden together."""
    groups = [
        [_integer(item.strip(), "a position: write 3,7,10+11") for item in part.split("+")] for part in text.split(",")
    ]
    return tuple(group[0] if len(group) == 1 else tuple(group) for group in groups)


PARSE = {"row": _row, "target": _target, "layers": _layers, "positions": _positions}


def impact_requests(
    config: Path | None, images: Images, prompt: str | None, given: dict[str, Any], seed: int
) -> tuple[Request, ...]:
    """The prompts of --config, or the one of --image and --prompt."""
    if config is not None and (images or prompt is not None):
        raise InputError("Give --config, or --image with --prompt, not both.")
    if config is None and prompt is None and not images:
        raise InputError("There is nothing to look at: give --prompt, mostly with --image FILE, or --config FILE.")
    from sightline.jobs.impact_config import read_config
    from sightline.jobs.impact_plan import requests_of
    from sightline.knockout.study import Study

    if config is not None:
        return tuple(read_config(config, given, seed))
    return requests_of([given_sample(images, prompt)], Study(**given, seed=seed))
