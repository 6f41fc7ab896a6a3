"""Instruments that hold image tokens and words against each other: the logit lens, grounding scores, GLSim."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.calibration.cases import Case
from sightline.calibration.instruments.base import Instrument, Labels
from sightline.calibration.subject import Subject
from sightline.probes.grounding import Grounding
from sightline.probes.image_lens import ImageLens, image_lens

LAST = 4
"""Layers of the grounding score, the last ones."""


class LogitLens(Instrument):
    """How sure the patches are of the object in question, in whichever layer they are surest; of its two words the
    less sure one."""

    name = "logit lens"
    source = "2410.02762"
    about = "the largest probability that a patch gives to the object's words, over layers"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """The internal confidence."""
        return [float(self._found(subject, case).internal().min())]

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """At the last layer, of the caption's pass."""
        found = subject.signals(case, labels["text"], labels["words"])
        return [float(value) for value in found.values["lens"]]

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """Each patch's confidence."""
        found = self._found(subject, case)
        return torch.minimum(found.map(0), found.map(1)).flatten()

    def _found(self, subject: Subject, case: Case) -> ImageLens:
        with subject.counted(case):
            return image_lens(subject.vlm, subject.inputs(case), (case.kind.colour, case.kind.shape))


class GroundingScore(Instrument):
    """g_t, the cosine between a word's state and the closest patch, mean over the last four layers."""

    name = "grounding score"
    about = "cosine between a word's state and its closest patch, mean over the last four layers"

    @torch.no_grad()
    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the words for the object, in the question."""
        with subject.counted(case), Grounding(layers=f"last{min(LAST, subject.layers)}").on(subject.vlm) as probe:
            subject.vlm.model(**subject.inputs(case))
        scores = probe.scores().values[0].cpu()
        return [float(scores[subject.places_of(case)].mean())]

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """Of the caption's words."""
        found = subject.signals(case, labels["text"], labels["words"])
        return [float(value) for value in found.values[f"grounding last{min(LAST, subject.layers)}"]]

    def patch(self, subject: Subject, case: Case) -> Tensor:
        """The cosine of each patch's feature with the question's words for the object, mean over words and layers."""
        plain = subject.plain(case)
        features = torch.nn.functional.normalize(plain.states[0, plain.cells], dim=-1)
        words = torch.nn.functional.normalize(plain.states[-LAST:, subject.places_of(case)], dim=-1)
        return torch.einsum("lwh,ph->p", words, features) / (words.shape[0] * words.shape[1])


class GLSimScore(Instrument):
    """GLSim: the word's state against the prompt's end, and against the patches that speak for it."""

    name = "GLSim"
    source = "2508.19972"
    about = "similarity of a word's state with the prompt's end and with its patches"

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """At the positions that predict the word."""
        found = subject.signals(case, labels["text"], labels["words"])
        return [float(value) for value in found.values["glsim, before"]]
