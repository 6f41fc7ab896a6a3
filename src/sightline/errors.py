"""Errors for the person at the keyboard: one sentence that says what is wrong, where, and what would be right."""

from __future__ import annotations


class SightlineError(Exception):
    """Base of every error Sightline raises on purpose. The command line prints its one sentence and exits with 1."""


class InputError(SightlineError):
    """Wrong usage or input: a missing file, an unknown name, a field out of range. The command line exits with 2."""


class RunError(SightlineError):
    """The run itself cannot go on: a full disk, a folder that is gone, a lost device. It is no sample's failure."""


class OthersAtWork(RunError):
    """Other processes still do what is left, and their end cannot be seen from here; the last to end has the result."""


class GateError(SightlineError):
    """A gate that the user set did not hold: the work is done, and its result is not good enough. Exits with 3."""


class ModelError(InputError):
    """A model that cannot be found, loaded, reached or is of a kind that Sightline refuses."""


class LayoutError(InputError):
    """It is not known which positions of a prompt are text and which are image, video or audio."""


class SightlineWarning(UserWarning):
    """Something that runs, but not as one may think: a method whose settings change nothing. One sentence."""
