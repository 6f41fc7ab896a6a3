"""Truths: what is known of which models, and the label of each case, by intervention where it is the model's own.

A truth never reads attention: it exchanges the picture, takes an object out, or knows where a sink was planted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from sightline.calibration.cases import (
    Case,
    Unit,
    caption_cases,
    existence_cases,
    insertion_cases,
    pair_cases,
    place_cases,
)
from sightline.calibration.subject import Subject
from sightline.errors import InputError
from sightline.zoo import BUNDLED
from sightline.zoo.organisms import organisms, truth_of
from sightline.zoo.questions import mentioned
from sightline.zoo.world import GRID

Labels = Mapping[str, Any]
"""labels: [values], 1, 0 or None where nothing is known; and what else the instruments need of it."""

Scope = Literal["case", "pooled", "heads", "exact"]
"""Over what an AUROC is taken: within each case, over the cases of a model together, over heads; or equality."""

DIAL = tuple(f"tiny-reliance-{share:03d}" for share in (0, 25, 50, 75, 100))

QWENS = ("tiny-qwen2_5-vl", "tiny-qwen3-vl")

CAPTION_TOKENS = 48


@dataclass(frozen=True)
class KnownTruth:
    """One thing that is known.

    Attributes:
        name: of a truth for tables and run folders.
        unit: what a label is of.
        scope: how readings are held against labels.
        models: of which it is known.
        positive: what a label of 1 means, in words.
        draw: the cases of a model: (name of the truth, how many, seed).
        label: of a case, on the model.
        share: of the wanted cases, since some cost more than others.
    """

    name: str
    unit: Unit
    scope: Scope
    models: tuple[str, ...]
    positive: str
    draw: Callable[[str, int, int], list[Case]]
    label: Callable[[Subject, Case], Labels]
    share: float = 1.0

    def cases(self, model: str, count: int, seed: int) -> list[Case]:
        """The cases of one model; the same scenes for all models of a truth."""
        return self.draw(self.name, max(4, round(self.share * count)), seed)


def follows_picture(subject: Subject, case: Case) -> Labels:
    """1 where the answer is the right one to both pictures: it went with the picture."""
    answers = [_is_yes(text) for text in subject.answers([case.sample, case.swapped])]
    here = case.question.answer == "yes"
    return {"labels": [float(answers == [here, not here])]}


def is_right(subject: Subject, case: Case) -> Labels:
    """1 where the answer is the true one."""
    (text,) = subject.answers([case.sample])
    return {"labels": [float(_is_yes(text) == (case.question.answer == "yes"))]}


def names_what_is_there(subject: Subject, case: Case) -> Labels:
    """A caption, and for each object that it names whether it is there."""
    (text,) = subject.answers([case.sample], CAPTION_TOKENS)
    words: list[tuple[int, int, int]] = []
    start = 0
    for kind in mentioned(text):
        start = text.index(kind.name, start)
        words.append((start, start + len(kind.name), int(kind in case.scene.kinds)))
        start += len(kind.name)
    return {"labels": [float(label) for _, _, label in words], "text": text, "words": words}


def is_seen(subject: Subject, case: Case) -> Labels:
    """1 on the patches of the left half, which alone can change what tiny-half says."""
    rows, columns = subject.plain(case).shape
    return {"labels": [float(2 * column < columns) for _ in range(rows) for column in range(columns)]}


def is_object(subject: Subject, case: Case) -> Labels:
    """1 on the patches of the object in question; unknown where taking it out does not turn yes into no."""
    answers = [_is_yes(text) for text in subject.answers([case.sample, case.swapped])]
    if answers != [True, False]:
        return {"labels": []}
    rows, columns = subject.plain(case).shape
    cells = {item.cell for item in case.scene.items if item.kind == case.kind}
    return {"labels": [float(cell in cells) for cell in _cells(rows, columns)]}


def is_planted(subject: Subject, case: Case) -> Labels:
    """1 on BOS and on the corner patches that show background, [positions of the prompt]."""
    plain = subject.plain(case)
    rows, columns = plain.shape
    corners = truth_of(subject.vlm.name)["tokens"]["image"]
    empty = [case.scene.at(cell) is None for cell in _cells(rows, columns)]
    labels = torch.zeros(plain.rows.shape[-1])
    labels[0] = 1.0
    labels[plain.cells[[patch for patch in corners if empty[patch]]]] = 1.0
    return {"labels": labels.tolist()}


def is_planted_head(subject: Subject, case: Case) -> Labels:
    """1 on the heads that look for the sinks, layer by layer."""
    heads = {tuple(head) for head in truth_of(subject.vlm.name)["heads"]}
    anatomy = subject.vlm.anatomy
    return {
        "labels": [
            float((layer, head) in heads) for layer in anatomy.attention_layers for head in range(anatomy.num_heads)
        ]
    }


def sink_dims(subject: Subject, case: Case) -> Labels:
    """The planted dimensions; none in a model without sinks."""
    name = subject.vlm.name
    return {"labels": [1.0], "dims": truth_of(name)["dims"] if name in organisms() else []}


def _is_yes(text: str) -> bool:
    return not text.lower().startswith("no")


def _cells(rows: int, columns: int) -> list[int]:
    """The cell of the scene in which each patch lies, in reading order."""
    return [row * GRID // rows * GRID + column * GRID // columns for row in range(rows) for column in range(columns)]


def _half_cases(name: str, count: int, seed: int) -> list[Case]:
    """Objects put into the left and, in turn, into the right column."""
    sides = [insertion_cases(name, count, seed, columns) for columns in ((0,), (GRID - 1,))]
    return [sides[index // 2 % 2][index] for index in range(count)]


_RIGHT = partial(KnownTruth, unit="answer", scope="pooled", label=is_right, positive="the answer is right", share=0.75)

TRUTHS: tuple[KnownTruth, ...] = (
    KnownTruth(
        "follows",
        "answer",
        "pooled",
        DIAL,
        "the answer follows the picture",
        insertion_cases,
        follows_picture,
        share=2.25,
    ),
    _RIGHT("right sinks", models=("tiny-sinks",), draw=existence_cases),
    _RIGHT("right silent", models=("tiny-silent-sinks", "tiny-llava"), draw=existence_cases),
    _RIGHT("right early", models=("tiny-llava-early",), draw=existence_cases),
    _RIGHT("right pairs", models=("tiny-binding",), draw=pair_cases),
    _RIGHT("right half", models=("tiny-half",), draw=_half_cases),
    KnownTruth(
        "named",
        "word",
        "pooled",
        ("tiny-llava-early", "tiny-binding"),
        "the object named is there",
        caption_cases,
        names_what_is_there,
    ),
    KnownTruth(
        "seen", "patch", "case", ("tiny-half",), "the patch is in the half that is seen", place_cases, is_seen, 0.5
    ),
    KnownTruth(
        "place",
        "patch",
        "case",
        ("tiny-llava", *QWENS),
        "the patch shows the object that decides the answer",
        place_cases,
        is_object,
        0.5,
    ),
    KnownTruth(
        "sinks",
        "token",
        "case",
        ("tiny-sinks", "tiny-silent-sinks"),
        "a sink is planted in the token",
        existence_cases,
        is_planted,
        0.3,
    ),
    KnownTruth(
        "heads",
        "head",
        "heads",
        ("tiny-sinks", "tiny-silent-sinks"),
        "the head was made to look for sinks",
        existence_cases,
        is_planted_head,
        0.5,
    ),
    KnownTruth(
        "follows elsewhere",
        "answer",
        "pooled",
        ("tiny-llava", "tiny-llava-early", *QWENS, "tiny-half", "tiny-sinks", "tiny-binding"),
        "the answer follows the picture",
        insertion_cases,
        follows_picture,
        0.5,
    ),
    KnownTruth(
        "dims",
        "dims",
        "exact",
        ("tiny-sinks", "tiny-silent-sinks", "tiny-llava"),
        "the sink dimensions are those planted",
        existence_cases,
        sink_dims,
        0.5,
    ),
)


def models_with_truth() -> tuple[str, ...]:
    """The bundled models of which something is known, in the order of the truths."""
    named = dict.fromkeys(model for truth in TRUTHS for model in truth.models)
    return tuple(model for model in named if model in BUNDLED)


def check_models(models: Sequence[str]) -> tuple[str, ...]:
    """The models as they are, all of them for none; InputError for one of which no truth is known."""
    known = models_with_truth()
    for model in models:
        if model not in known:
            raise InputError(
                f"No truth is known of {model}, so nothing can be held against it: give {', '.join(known)}."
            )
    return tuple(dict.fromkeys(models)) or known
