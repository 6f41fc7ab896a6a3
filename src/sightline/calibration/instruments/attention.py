"""Instruments that read attention weights alone: one plain pass each."""

from __future__ import annotations

from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from sightline.calibration.cases import Case
from sightline.calibration.instruments.base import Instrument, Labels
from sightline.calibration.subject import Subject
from sightline.probes.dominance import SampleDominance
from sightline.probes.localization import Localization, localize


class MDI(Instrument):
    """-MDI, the mean over layers: above -1 the picture draws more for each of its tokens than the text."""

    name = "MDI"
    source = "2508.10552"
    about = "minus the Modality Dominance Index, mean over layers"
    has_sinks: ClassVar[bool] = True

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the row that predicts the first token."""
        found = subject.dominance(case)
        return [-_mean([found.mdi(layer, self.has_sinks) for layer in found.layers])]


class SinkCorrectedMDI(MDI):
    """The same with sinks taken out of masses and counts; MDI itself where no sinks were found."""

    name = "MDI without sinks"
    about = "minus the MDI with the sinks that the finder found taken out"
    has_sinks = False


class AEI(Instrument):
    """-AEI of the text, the mean over layers."""

    name = "AEI"
    source = "2508.10552"
    about = "minus the Attention Efficiency Index of the text, mean over layers"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the row that predicts the first token."""
        found: SampleDominance = subject.dominance(case)
        return [-_mean([found.aei(layer) for layer in found.layers])]


class AttentionMap(Instrument):
    """Attention of the row that answers, mean over layers and heads; for an answer what the picture gets in all."""

    name = "attention map"
    about = "attention of the last row, mean over layers and heads"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """The mass on the picture."""
        return [float(self.patch(subject, case).sum())]

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """The mass on the picture at the word's own position."""
        found = subject.signals(case, labels["text"], labels["words"])
        return [float(value) for value in found.values["attention mass"]]

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """On each patch."""
        return self.token(subject, case)[subject.plain(case).cells]

    def token(self, subject: Subject, case: Case) -> Tensor:
        """On each token."""
        return subject.plain(case).rows.mean((0, 1))

    def head(self, subject: Subject, case: Case) -> Tensor:
        """What each head gives to the picture."""
        plain = subject.plain(case)
        return plain.rows[..., plain.cells].sum(-1)


class LocalizationHeads(Instrument):
    """The three heads that look at one place most clearly; for an answer what they give to the picture."""

    name = "localization heads"
    source = "2503.06287"
    about = "attention of the three heads of lowest spatial entropy"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """The mean mass of the three."""
        heads = self._found(subject, case).heads[:3]
        return [fmean(head.mass for head in heads) if heads else 0.0]

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """Their map; the same everywhere where no head looks at one place."""
        found = self._found(subject, case)
        return found.map().flatten() if found.heads else torch.zeros(len(subject.plain(case).cells))

    def head(self, subject: Subject, case: Case) -> Tensor:
        """Minus the spatial entropy; the lowest of all for heads that are not kept."""
        plain = subject.plain(case)
        found = self._found(subject, case)
        worst = 1.0 + max((head.entropy for head in found.heads), default=0.0)
        values = torch.full(plain.rows.shape[:2], -worst)
        layers = list(subject.vlm.anatomy.attention_layers)
        for head in found.heads:
            values[layers.index(head.layer), head.head] = -head.entropy
        return values

    def _found(self, subject: Subject, case: Case) -> Localization:
        with subject.counted(case):
            return localize(subject.vlm, subject.inputs(case))


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return fmean(known) if known else float("nan")
