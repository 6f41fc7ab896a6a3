"""The sink finder, a linear probe, and a reading that knows nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.attention.sink_tracker import FIRST_LAYER, phi
from sightline.calibration.cases import CASE_SEED, Case
from sightline.calibration.instruments.base import Instrument, Labels
from sightline.calibration.subject import SINK_SAMPLES, Subject


class SinkFinder(Instrument):
    """phi in the dimensions that `sl.find_sinks` finds, the largest over layers; 0 where it finds none."""

    name = "sink finder"
    source = "2503.03321"
    about = "the largest activation in the sink dimensions that were found"

    def token(self, subject: Subject, case: Case) -> Tensor:
        """phi of each token."""
        states = subject.plain(case).states[FIRST_LAYER:-1]
        return phi(states, subject.sinks.dims).amax(0)

    def dims(self, subject: Subject, case: Case) -> list[int]:
        """Found on a dozen prompts of the case's own seed."""
        subject.spent += 2 * SINK_SAMPLES
        return list(subject.find_sinks(CASE_SEED + int(case.id.rpartition("/")[2]), SINK_SAMPLES).dims)


class LargestMean(Instrument):
    """As many dimensions as a sink has, those of the largest mean size: what a glance at activations would name."""

    name = "largest mean activation"
    about = "the two dimensions of largest mean size"
    is_control = True

    def dims(self, subject: Subject, case: Case) -> list[int]:
        """Of one prompt."""
        size = subject.plain(case).states[FIRST_LAYER:-1].abs().mean((0, 1))
        return sorted(int(dim) for dim in size.topk(2).indices)


class LinearProbe(Instrument):
    """The state of the last row in the middle layer, on which a ridge regression is trained on other scenes."""

    name = "linear probe"
    source = "2605.08200"
    about = "ridge regression on the last row's middle state, trained on labels of other scenes"
    is_vector = True

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """The state, [hidden]."""
        states = subject.plain(case).states
        values: list[float] = [round(value, 5) for value in states[subject.layers // 2, -1].tolist()]
        return values


class Chance(Instrument):
    """A random number for each unit."""

    name = "random"
    about = "a random number"
    is_control = True

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """One."""
        return [float(torch.rand(1, generator=subject.draw(case)))]

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """One a word."""
        drawn: list[float] = torch.rand(len(labels["words"]), generator=subject.draw(case)).tolist()
        return drawn

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """One a patch."""
        return torch.rand(len(subject.plain(case).cells), generator=subject.draw(case))

    def token(self, subject: Subject, case: Case) -> Tensor:
        """One a token."""
        return torch.rand(subject.plain(case).rows.shape[-1], generator=subject.draw(case))

    def head(self, subject: Subject, case: Case) -> Tensor:
        """One a head."""
        return torch.rand(subject.plain(case).rows.shape[:2], generator=subject.draw(case))
