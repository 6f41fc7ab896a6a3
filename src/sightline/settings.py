"""A field of a settings class: the one place where its default, its help and its bounds stand."""

from __future__ import annotations

import dataclasses
from typing import Any


def setting(default: Any, help: str, **about: Any) -> Any:
    """A field of a settings class.

    help    one line: meaning, unit
    about   least, most: bounds of a number; above: a bound that is not included; option: its name on the command line
            where it is another; artifact: also a file is taken, or what found it; metavar: what stands for its value
            there; hidden: Python alone has it; pattern, wanted: of text
    """
    return dataclasses.field(default=default, metadata={"help": help, **about})
