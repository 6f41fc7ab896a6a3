"""Organisms: bundled models whose truth is built in and verified by intervention, to hold instruments against.

Each has a truth.json beside its weights; what all of them have:

    organism, base, recipe   its name, the model it was made from, and the script that made it
    claim                    what is true of it, in words
    seed                     from which seed the scenes of verification were drawn
    verified                 [{"what", "by", "n", "value", "ci95"}]: what each intervention did, with its 95% interval

and what only some have, such as "dims" and "tau" of sinks, stands beside.
"""

from __future__ import annotations

import json
from typing import Any

from sightline.zoo import BUNDLED, CHECKPOINTS


def organisms() -> tuple[str, ...]:
    """The names of the bundled organisms."""
    return tuple(name for name in BUNDLED if (CHECKPOINTS / name / "truth.json").is_file())


def truth_of(name: str) -> dict[str, Any]:
    """What is true of an organism; KeyError for a name that is none."""
    if name not in organisms():
        raise KeyError(name)
    truth: dict[str, Any] = json.loads((CHECKPOINTS / name / "truth.json").read_text(encoding="utf-8"))
    return truth
