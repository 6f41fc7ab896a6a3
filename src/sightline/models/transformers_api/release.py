"""Which releases of Transformers the tests passed on."""

from __future__ import annotations

import functools
import warnings

from transformers import __version__ as RELEASE

from sightline.errors import SightlineWarning

__all__ = ["NEWEST", "OLDEST", "RELEASE", "release_warning", "warn_of_release"]


OLDEST, NEWEST = (5, 17), (5, 24)
"""The first and the last minor release that the tests passed on."""


def release_warning(release: str = RELEASE) -> str | None:
    """A sentence where this release of Transformers is none that the tests passed on, else None."""
    minor = tuple(int(part) for part in release.split(".")[:2] if part.isdigit())
    if OLDEST <= minor <= NEWEST:
        return None
    tested = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    return (
        f"Transformers {release} is installed, and Sightline was tested with {tested}: what it does not know there it "
        f"refuses, and `vlm.check()` looks whether a model is read rightly."
    )


@functools.cache
def warn_of_release() -> None:
    """Warn once of a release that is none that the tests passed on."""
    sentence = release_warning()
    if sentence is not None:
        warnings.warn(sentence, SightlineWarning, stacklevel=4)
