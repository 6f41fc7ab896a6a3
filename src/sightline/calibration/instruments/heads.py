"""Instruments that attribute the answer to heads."""

from __future__ import annotations

from torch import Tensor

from sightline.calibration.cases import Case
from sightline.calibration.instruments.base import Instrument
from sightline.calibration.subject import Subject
from sightline.knockout.heads import head_effects


class HeadAblation(Instrument):
    """|change of the answer's log-probability| with the head's output at zero: a pass a head."""

    name = "head ablation"
    about = "size of the change of the answer's log-probability without the head"

    def head(self, subject: Subject, case: Case) -> Tensor:
        """Exactly."""
        with subject.counted(case):
            found = head_effects(subject.vlm, subject.inputs(case)).exact
        if found is None:
            raise AssertionError("exact effects are always there")
        return found.abs()


class HeadGradient(Instrument):
    """The same to first order, by one backward pass."""

    name = "head attribution, gradient"
    about = "the same by one backward pass"

    def head(self, subject: Subject, case: Case) -> Tensor:
        """By gradient."""
        with subject.counted(case):
            return head_effects(subject.vlm, subject.inputs(case), exact=False).gradient.abs()
