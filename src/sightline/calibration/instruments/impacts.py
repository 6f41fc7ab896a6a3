"""Instruments that hide something and look at what changes: impact, local and causal, and parts of the picture gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sightline.calibration.cases import Case, stranger
from sightline.calibration.instruments.base import Instrument
from sightline.calibration.subject import Subject
from sightline.knockout.result import ImpactMap
from sightline.knockout.study import Study

WHOLE_PICTURE = 1_000
"""Rows and columns of patches in a block that covers any picture."""


class _Impact(Instrument):
    """measure: of the map that is read; it has no sign, since what matters may matter either way."""

    measure: ClassVar[str]

    def study(self, subject: Subject, **selection: Any) -> Study:
        """What is hidden, and how."""
        raise NotImplementedError

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """All image tokens hidden together."""
        return [self._effects(self._map(subject, case, tokens="image", unit="modality"))[0]]

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """Each image token hidden alone."""
        return self._by_position(subject, case, "image")[subject.plain(case).cells]

    def token(self, subject: Subject, case: Case) -> Tensor:
        """Each token of the prompt hidden alone."""
        return self._by_position(subject, case, "all")

    def _map(self, subject: Subject, case: Case, **selection: Any) -> ImpactMap:
        with subject.counted(case):
            (found,) = self.study(subject, **selection).run(subject.vlm, subject.inputs(case))
        return found

    def _effects(self, found: ImpactMap) -> list[float]:
        """Of each source, mean over layers."""
        values: list[float] = np.nanmean(found.values(self.measure), axis=0).tolist()
        return values

    def _by_position(self, subject: Subject, case: Case, tokens: str) -> Tensor:
        found = self._map(subject, case, tokens=tokens, unit="token")
        values = torch.full((int(subject.inputs(case)["input_ids"].shape[1]),), torch.nan)
        for source, effect in zip(found.tokens, self._effects(found), strict=True):
            values[list(source.positions)] = effect
        return values


class LocalImpact(_Impact):
    """L2 distance of each layer's own output when the last row cannot read a source, mean over layers."""

    name = "impact, local"
    about = "change of each layer's output with the source hidden from the last row"
    measure = "l2"

    def study(self, subject: Subject, **selection: Any) -> Study:
        """All layers, each alone."""
        return Study(mode="local", **selection)


class CausalImpact(_Impact):
    """KL divergence of the answer when the last row cannot read a source in any layer."""

    name = "impact, causal"
    about = "KL of the answer with the source hidden from the last row in all layers"
    measure = "kl"
    scope: ClassVar[str] = "row"

    def study(self, subject: Subject, **selection: Any) -> Study:
        """One window over all layers."""
        whole: dict[str, Any] = {"layers": (0,), "window": 2 * subject.layers + 1, "scope": self.scope}
        return Study(mode="causal", **whole, **selection)


class EveryRowImpact(CausalImpact):
    """The same with the source hidden from every row behind it, so that it cannot come by way of another token."""

    name = "impact, every row"
    about = "KL of the answer with the source hidden from every later row in all layers"
    scope = "every-row"


class VisionImpact(Instrument):
    """KL divergence of the answer when a part of the picture is painted grey; for an answer the whole picture."""

    name = "impact, vision"
    about = "KL of the answer with the patch, or the picture, painted grey"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """A grey picture instead."""
        return [float(value) for value in self._found(subject, case, WHOLE_PICTURE)]

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """Each patch alone."""
        return torch.tensor(self._found(subject, case, 1))

    def _found(self, subject: Subject, case: Case, block: int) -> list[float]:
        before = subject.spent
        with subject.counted(case):
            (found,) = Study(mode="vision", block=block).run(subject.vlm, case.sample)
        if subject.spent == before:
            subject.spent += 1 + len(found.tokens)
        values: list[float] = found.values("kl")[0].tolist()
        return values


class PictureExchanged(Instrument):
    """KL divergence of the answer when the picture is exchanged for another one, drawn at random: two passes."""

    name = "picture exchanged"
    about = "KL of the answer with another picture in its place"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """KL(p with the picture || p with the other), nats."""
        other = replace(case.sample, images=(stranger(case, subject.seed),))
        here = subject.plain(case).logits.log_softmax(0)
        there = subject.logits_of([other])[0].cpu().log_softmax(0)
        subject.spent += 1
        return [float((here.exp() * (here - there)).sum())]
