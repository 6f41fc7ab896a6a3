"""The rows of the table: what the truth is, what each instrument says, how well that agrees, and its cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from sightline.calibration.instruments import INSTRUMENTS
from sightline.calibration.scoring import (
    Marked,
    Rating,
    probe_scores,
    score_cases,
    score_exact,
    score_heads,
    score_pooled,
    score_rank,
)
from sightline.calibration.truths import DIAL, TRUTHS, KnownTruth
from sightline.zoo.organisms import truth_of

DIAL_NAME = "tiny-reliance-*"
FOLLOWS = "follows"
ELSEWHERE = "follows elsewhere"
RELIANCE = "reliance"
EVERYWHERE = "all models"
POSITIVE = "the share of answers that follow the picture, by model"


@dataclass(frozen=True)
class Agreement:
    """One instrument against one truth.

    Attributes:
        truth, model, unit: what it is held against; positive: what is true of units labelled 1, in words.
        instrument: its name; source: the arXiv id of what it comes from; is_control: whether it knows nothing.
        metric, value, ci95, n, chance: the agreement, see `Rating`.
        says: what it reads on average where the label is 1 and where it is 0; of reliance, by model.
        truths: of reliance, the truth by model.
        passes: the cost of a reading, in plain forward passes of the prompt; None where it is not known.
    """

    truth: str
    model: str
    unit: str
    positive: str
    instrument: str
    source: str
    is_control: bool
    metric: str
    value: float
    ci95: tuple[float, float] | None
    n: int
    chance: float
    says: Mapping[str, float | None]
    truths: Mapping[str, float] | None
    passes: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"ci95": None if self.ci95 is None else list(self.ci95)}


Results = Mapping[str, Mapping[str, Any]]
"""By the id of a case, what its record holds."""

Read = Callable[[str, str], Results]
"""Of a model and of an instrument, or of "truth: NAME"."""


def label_name(truth: KnownTruth) -> str:
    """What the labels of a truth are recorded under."""
    return f"truth: {truth.name}"


def table_rows(
    truths: Sequence[KnownTruth], models: Sequence[str], instruments: Sequence[str], read: Read
) -> list[Agreement]:
    """All rows that the records suffice for. read: what was recorded of a model under a name."""
    found: list[Agreement] = []
    for truth in truths:
        mine = [model for model in truth.models if model in models]
        for name in instruments:
            if not type(INSTRUMENTS[name]).reads(truth.unit):
                continue
            by_model = {
                model: _Readings.of(truth, name, read(model, label_name(truth)), read(model, name)) for model in mine
            }
            found += _dial_rows(truth, name, by_model) if truth.name == FOLLOWS else _rows(truth, name, by_model)
    return [*found, *_everywhere_rows(truths, models, instruments, read)]


def follow_readings(models: Sequence[str], instrument: str, read: Read) -> dict[str, list[tuple[float, float]]]:
    """By model, of each answer what an instrument read, and whether the answer followed the picture, 1 or 0."""
    found: dict[str, list[tuple[float, float]]] = {}
    for truth in TRUTHS:
        if truth.name not in (FOLLOWS, ELSEWHERE):
            continue
        for model in (each for each in truth.models if each in models):
            readings = _Readings.of(truth, instrument, read(model, label_name(truth)), read(model, instrument))
            pairs = [(case.values[0], case.labels[0]) for case in readings.cases]
            kept = [(float(value), float(label)) for value, label in pairs if value is not None and label is not None]
            if kept:
                found[model] = kept
    return found


@dataclass(frozen=True)
class _Readings:
    """Of one instrument on one model."""

    cases: tuple[Marked, ...]
    dims: tuple[int, ...]
    passes: float | None

    @classmethod
    def of(cls, truth: KnownTruth, name: str, labels: Results, results: Results) -> _Readings:
        """Put together by case."""
        ids = [case for case in labels if case in results and case.startswith(f"{truth.name}/")]
        cases = [Marked(int(case.rpartition("/")[2]), labels[case]["labels"], results[case]["values"]) for case in ids]
        costs = [float(results[case]["passes"]) for case in ids]
        dims = next((tuple(labels[case]["dims"]) for case in ids if "dims" in labels[case]), ())
        return cls(tuple(cases), dims, fmean(costs) if costs else None)

    @classmethod
    def together(cls, name: str, readings: Iterable[_Readings]) -> _Readings:
        """Of several models as one; where states are read, each with a number by a probe."""
        listed = list(readings)
        cases = [case for each in listed for case in each.cases]
        costs = [each.passes for each in listed if each.passes is not None]
        kept = probe_scores(cases) if INSTRUMENTS[name].is_vector else cases
        dims = next((each.dims for each in listed if each.dims), ())
        return cls(tuple(kept), dims, fmean(costs) if costs else None)

    def score(self, truth: KnownTruth) -> Rating | None:
        """As the truth has it."""
        if truth.scope == "exact":
            return score_exact(self.cases, self.dims)
        by_scope = {"case": score_cases, "pooled": score_pooled, "heads": score_heads}
        return by_scope[truth.scope](self.cases)

    def says(self) -> dict[str, float | None]:
        """The mean reading of units labelled 1, and of those labelled 0."""
        pairs = [
            (label, float(value))
            for case in self.cases
            for label, value in zip(case.labels, case.values, strict=False)
            if value is not None and label is not None
        ]
        groups = {name: [value for label, value in pairs if label == wanted] for name, wanted in (("1", 1), ("0", 0))}
        return {name: fmean(values) if values else None for name, values in groups.items()}

    def by_scene(self) -> dict[int, float]:
        """The reading of each scene."""
        return {case.scene: float(case.values[0]) for case in self.cases if case.values[0] is not None}


def _rows(truth: KnownTruth, name: str, by_model: Mapping[str, _Readings]) -> list[Agreement]:
    found = []
    for model, raw in by_model.items():
        readings = _Readings.together(name, [raw])
        score = readings.score(truth)
        if score is not None:
            says = {} if truth.scope == "exact" else readings.says()
            found.append(_row(truth, model, name, score, says, None, readings.passes))
    return found


def _dial_rows(truth: KnownTruth, name: str, by_model: Mapping[str, _Readings]) -> list[Agreement]:
    """One row over the models of the dial, and one over the answers of all of them."""
    known = {model: float(truth_of(model)["reliance"]) for model in DIAL if model in by_model}
    together = _Readings.together(name, by_model.values())
    found = _ranked(truth, name, DIAL_NAME, by_model, known)
    score = together.score(truth)
    if score is not None:
        found.append(_row(truth, DIAL_NAME, name, score, together.says(), None, together.passes))
    return found


def _everywhere_rows(
    truths: Sequence[KnownTruth], models: Sequence[str], instruments: Sequence[str], read: Read
) -> list[Agreement]:
    """Every model whose answers were put to the test here, the dial and the others, by the share that followed."""
    found: list[Agreement] = []
    mine = [truth for truth in truths if truth.name in (FOLLOWS, ELSEWHERE)]
    if len(mine) < 2:
        return []
    for name in instruments:
        if not type(INSTRUMENTS[name]).reads("answer"):
            continue
        by_model = {
            model: _Readings.of(truth, name, read(model, label_name(truth)), read(model, name))
            for truth in mine
            for model in truth.models
            if model in models
        }
        known = {
            model: fmean(float(case.labels[0] or 0.0) for case in readings.cases)
            for model, readings in by_model.items()
            if readings.cases
        }
        found += _ranked(mine[0], name, f"{EVERYWHERE} ({len(known)})", by_model, known)
    return found


def _ranked(
    truth: KnownTruth, name: str, title: str, by_model: Mapping[str, _Readings], known: Mapping[str, float]
) -> list[Agreement]:
    """A row on the order of models; none for a probe, whose mean is that of the labels it was given."""
    if INSTRUMENTS[name].is_vector:
        return []
    means = {model: readings.by_scene() for model, readings in by_model.items()}
    score = score_rank(means, known)
    if score is None:
        return []
    says: dict[str, float | None] = {model: fmean(values.values()) for model, values in means.items() if values}
    passes = _Readings.together(name, by_model.values()).passes
    row = _row(truth, title, name, score, says, known, passes)
    return [replace(row, truth=RELIANCE, positive=POSITIVE, unit="model")]


def _row(
    truth: KnownTruth,
    model: str,
    name: str,
    score: Rating,
    says: Mapping[str, float | None],
    truths: Mapping[str, float] | None,
    passes: float | None,
) -> Agreement:
    instrument = INSTRUMENTS[name]
    return Agreement(
        truth=truth.name,
        model=model,
        unit=truth.unit,
        positive=truth.positive,
        instrument=name,
        source=instrument.source,
        is_control=instrument.is_control,
        says=says,
        truths=truths,
        passes=passes,
        **asdict(score),
    )
