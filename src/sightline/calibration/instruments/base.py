"""An instrument: what reads a model and claims to say something, as a number for each unit of a case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from torch import Tensor

from sightline.calibration.cases import Case, Unit
from sightline.calibration.subject import Subject

Labels: TypeAlias = Mapping[str, Any]


class Instrument:
    """Base of all. A subclass overrides the units it can read; the others it does not have.

    Larger always means more: an answer or a word that rests more on the picture or is surer, a patch or a token that
    draws or matters more, a head that does more.

    Attributes:
        name: for tables and run folders.
        source: the arXiv id of what it comes from; "" for what has no paper.
        about: what it reads, in words.
        is_vector: whether its reading of an answer is a state, [width], of which a probe is trained; else a number.
        is_control: whether it knows nothing, and stands beside the others to be beaten.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""
    about: ClassVar[str]
    is_vector: ClassVar[bool] = False
    is_control: ClassVar[bool] = False

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the answer: one number, or a state."""
        raise NotImplementedError

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """Of each object that the caption names."""
        raise NotImplementedError

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """Of each patch, in reading order."""
        raise NotImplementedError

    def token(self, subject: Subject, case: Case) -> Tensor:
        """Of each token of the prompt, [positions]; NaN where it has none."""
        raise NotImplementedError

    def head(self, subject: Subject, case: Case) -> Tensor:
        """Of each head, [layers, heads]."""
        raise NotImplementedError

    def dims(self, subject: Subject, case: Case) -> list[int]:
        """The sink dimensions of the model, found on prompts of the case's own seed."""
        raise NotImplementedError

    @classmethod
    def reads(cls, unit: Unit) -> bool:
        """Whether it has values for this unit."""
        return getattr(cls, unit) is not getattr(Instrument, unit)

    def read(self, subject: Subject, case: Case, unit: Unit, labels: Labels) -> list[Any]:
        """The values of a case; None where one is not defined."""
        if unit == "word":
            return _plain(self.word(subject, case, labels))
        of: Callable[[Subject, Case], Any] = getattr(self, unit)
        return _plain(of(subject, case))


def _plain(values: Any) -> list[Any]:
    listed = values.flatten().tolist() if isinstance(values, Tensor) else list(values)
    return [None if value != value else value for value in listed]
