"""Passes of an instrument, in which no method may have a part.

A method acts on the passes of the model that others run. An instrument that runs passes of its own, on the model as it
is, would give the same numbers inside a method's `with` as outside, so it is refused there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sightline.attention.ownership import bypassed, is_bypassed
from sightline.errors import InputError
from sightline.models.anatomy import Anatomy
from sightline.models.entered import entered_methods


def require_alone(anatomy: Anatomy, instrument: str) -> None:
    """InputError inside a method's `with`: the instrument looks at the model as it is."""
    names = entered_methods(id(anatomy.model))
    if names and not is_bypassed(anatomy):
        does = "does" if len(names) == 1 else "do"
        raise InputError(
            f"{instrument} runs passes of its own on the model as it is, in which {' and '.join(names)} {does} not "
            "act: leave the `with` first, or read the plain model inside `with sightline.bypassed(model)`."
        )


@contextmanager
def alone(anatomy: Anatomy, instrument: str) -> Iterator[None]:
    """Inside, an instrument's own passes, untouched and unseen.

    Raises:
        InputError: inside a method's `with`.
    """
    require_alone(anatomy, instrument)
    with bypassed(anatomy):
        yield
