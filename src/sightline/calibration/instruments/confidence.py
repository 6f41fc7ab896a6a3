"""Instruments that read what the model puts out: how sure it is."""

from __future__ import annotations

import torch

from sightline.calibration.cases import Case
from sightline.calibration.instruments.base import Instrument, Labels
from sightline.calibration.subject import Subject

DRAWS = 10
"""Answers that self-consistency draws."""


class LogProbability(Instrument):
    """log p of the answer's first token, or of the tokens of a word."""

    name = "log-probability"
    about = "log-probability of the answer's first token; of a word's tokens"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the likeliest token."""
        return [float(subject.plain(case).logits.log_softmax(0).max())]

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """Mean over a word's tokens."""
        found = subject.signals(case, labels["text"], labels["words"])
        return [float(value) for value in found.values["log-probability"]]


class Entropy(Instrument):
    """-H of the prediction, in nats."""

    name = "entropy"
    source = "2605.08200"
    about = "minus the entropy of the prediction"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the answer's first token."""
        log = subject.plain(case).logits.log_softmax(0)
        return [float((log.exp() * log).sum())]

    def word(self, subject: Subject, case: Case, labels: Labels) -> list[float]:
        """Mean over a word's tokens."""
        found = subject.signals(case, labels["text"], labels["words"])
        return [float(value) for value in found.values["entropy"]]


class SelfConsistency(Instrument):
    """The share of ten answers, drawn at temperature 1, that begin as the greedy one does.

    Answers of one word are one draw from one pass; longer answers would take a generation each.
    """

    name = "self-consistency"
    source = "2203.11171"
    about = "share of ten drawn answers that equal the greedy one"

    def answer(self, subject: Subject, case: Case) -> list[float]:
        """Of the first word."""
        logits = subject.plain(case).logits
        drawn = torch.multinomial(logits.softmax(0), DRAWS, replacement=True, generator=subject.draw(case))
        return [float((drawn == logits.argmax()).float().mean())]
