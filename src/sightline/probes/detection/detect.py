"""How well scores separate hallucinated words from grounded ones: AUROC of grounding, GLSim, attention, probability.

    found = evaluate(vlm, samples)            # TrainingSamples whose words are labelled 1 and 0
    found["grounding last4"].auroc            # 0.5: no better than chance
    found["grounding last4"].ci95
    found.difference("grounding last4", "glsim")

`captioned` makes such samples of what a model says itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.probes.detection.glsim import GLSim
from sightline.probes.detection.signals import WordSignals, read_signals
from sightline.stats import Interval, auroc, auroc_difference, auroc_interval

if TYPE_CHECKING:
    from sightline.data.answer_words import Word
    from sightline.data.training_sample import TrainingSample
    from sightline.models.vlm import VLM

RESAMPLES = 2000


@dataclass(frozen=True)
class Detector:
    """One way to find hallucinated words.

    Attributes:
        name: as `sightline.probes.detection.signals` names it.
        auroc: the chance that it gives a grounded word more than a hallucinated one.
        ci95: the 95% interval, by redrawing images; None where it was not wanted.
    """

    name: str
    auroc: float
    ci95: Interval | None = None


@dataclass(frozen=True)
class Detection:
    """Every detector on the same words.

    Attributes:
        model: its name.
        grounded, hallucinated: how many words there were of each.
        images: how many images they are of.
        detectors: by name, in the order of `sightline.probes.detection.signals`.
        signals: what they were made of.
    """

    model: str
    grounded: int
    hallucinated: int
    images: int
    detectors: dict[str, Detector]
    signals: WordSignals

    def __getitem__(self, name: str) -> Detector:
        if name not in self.detectors:
            raise InputError(f"There is no detector {name!r}: give one of {', '.join(self.detectors)}.")
        return self.detectors[name]

    def difference(self, name: str, other: str, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, Interval]:
        """AUROC of one detector minus that of another, and its 95% interval over the same redrawn images."""
        known = self.signals
        ours, theirs = (known.values[self[each].name] for each in (name, other))
        return auroc_difference(ours, theirs, known.labels, known.images, resamples, seed)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, without the words themselves."""
        return {
            "model": self.model,
            "grounded": self.grounded,
            "hallucinated": self.hallucinated,
            "images": self.images,
            "detectors": {
                name: {"auroc": found.auroc, "ci95": None if found.ci95 is None else list(found.ci95)}
                for name, found in self.detectors.items()
            },
        }


def evaluate_detectors(
    vlm: VLM,
    samples: Sequence[TrainingSample],
    *,
    glsim: GLSim | None = None,
    batch: int = 32,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Detection:
    """How well each detector separates the words of these answers labelled 0 from those labelled 1.

    Args:
        samples: with `words`; the answer is run through the model as if it had given it.
        glsim: GLSim's settings, the authors' by default.
        resamples: of the interval; 0 leaves it out.

    Raises:
        InputError: without words of both labels.
    """
    found = read_signals(vlm, samples, glsim or GLSim(), batch)
    grounded, hallucinated = int((found.labels > 0).sum()), int((found.labels == 0).sum())
    if not grounded or not hallucinated:
        raise InputError(
            f"The answers have {grounded} grounded and {hallucinated} hallucinated words: AUROC needs some of both."
        )
    detectors = {
        name: Detector(
            name,
            auroc(values, found.labels),
            auroc_interval(values, found.labels, found.images, resamples, seed) if resamples else None,
        )
        for name, values in found.values.items()
    }
    return Detection(vlm.name, grounded, hallucinated, int(found.images.max()) + 1, detectors, found)


def captioned(
    vlm: VLM,
    samples: Sequence[TrainingSample],
    label: Callable[[TrainingSample, str], Sequence[Word]],
    *,
    new_tokens: int = 64,
    batch: int = 32,
    **options: Any,
) -> list[TrainingSample]:
    """The samples with the model's own answers and the labels of their words.

    Answers without a word to be judged are left out.

    Args:
        label: of a sample and its new answer, (start, end, label) of the words to be judged.
        options: of `generate`, as `do_sample=True`.
    """
    answered: list[TrainingSample] = []
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        rows = vlm.generate_tokens(
            vlm.encode([sample.question() for sample in part]), max_new_tokens=new_tokens, **options
        )
        for sample, row in zip(part, rows, strict=True):
            text = vlm.tokenizer.decode(row, skip_special_tokens=True).strip()
            words = tuple(label(sample, text)) if text else ()
            if words:
                answered.append(replace(sample, answer=text, words=words, negative=None, negative_words=None))
    return answered
