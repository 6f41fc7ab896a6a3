"""How a run goes on: events that a caller's function is called with, to be drawn as it likes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

LOGGER = logging.getLogger("sightline")
"""Of the library: parts of a run and figures as INFO, entries that failed as WARNING; silent until it is set up."""

LOGGER.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Progress:
    """So much of one part of a run is done.

    title    of the part: "measuring", "POPE vcd"
    done     entries that are done, those from before included
    total    entries of the part
    detail   a few words beside: the score so far
    """

    title: str
    done: int
    total: int
    detail: str = ""


OnProgress = Callable[[Progress], None]
"""Called when a part begins, with what was done before, and after each of its entries."""
