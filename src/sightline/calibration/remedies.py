"""Which methods are tried on which model, and what each mends and breaks.

Each answers the very questions whose truth is known; an answer that was wrong and is right now is mended, one that was
right and is wrong now is broken. The controls of a method stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sightline.calibration.cases import Case
from sightline.calibration.truths import TRUTHS, KnownTruth
from sightline.stats import holm, mean_interval, sign_flip
from sightline.zoo.organisms import organisms, truth_of

RESAMPLES = 2000

METHODS: tuple[str, ...] = (
    "vcd",
    "icd",
    "m3id",
    "pai",
    "vaf",
    "adaptvis",
    "dola",
    "deco",
    "vista",
    "var",
    "mask_sinks",
    "mask_random",
)
"""Tried on every model at their defaults, with their controls."""

CONTROLS = ("mask_random",)
"""Those of them that know nothing."""


@dataclass(frozen=True)
class Remedy:
    """One method on one model.

    Attributes:
        model, method: their names. is_control: whether it stands beside another method to be beaten.
        n: questions. before, after: the share that is answered rightly without and with it.
        mended, broken: questions whose answer turned right, and wrong.
        points, ci95: the difference in points of 100, and its interval over scenes.
        p_value: McNemar's exact test, adjusted for all methods of the model by Holm.
    """

    model: str
    method: str
    is_control: bool
    n: int
    before: float
    after: float
    mended: int
    broken: int
    points: float
    ci95: tuple[float, float] | None
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"ci95": None if self.ci95 is None else list(self.ci95)}


def truth_for(model: str) -> KnownTruth | None:
    """The questions of yes or no that a model is tried on."""
    return next((truth for truth in TRUTHS if truth.unit == "answer" and model in truth.models), None)


def specs_for(model: str) -> tuple[str, ...]:
    """The methods of a model; where VAR's mending settings are known, VAR at these and its control beside."""
    known = truth_of(model).get("var") if model in organisms() else None
    if known is None:
        return METHODS
    fields = ",".join(f"{name}={value}" for name, value in known.items())
    return (*METHODS, f"var:{fields}")


def is_right_answer(case: Case, text: str) -> bool:
    """By POPE's reading: everything but no is a yes."""
    return text.lower().startswith("no") == (case.question.answer == "no")


def name_without_sinks(spec: str) -> str:
    """A method's spec without the sinks of the model it acts on."""
    name, _, fields = spec.partition(":")
    kept = [field for field in fields.split(",") if field and field.partition("=")[0] not in ("dims", "tau")]
    return name + (":" + ",".join(kept) if kept else "")


def remedies(
    model: str, plain: Mapping[str, Mapping[str, Any]], treated: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[Remedy]:
    """A row a method. plain: by case, what was recorded of the model as it is; treated: the same by method."""
    found: list[Remedy] = []
    for results in treated.values():
        ids = [case for case in plain if case in results]
        if not ids:
            continue
        before = np.asarray([float(plain[case]["right"]) for case in ids])
        after = np.asarray([float(results[case]["right"]) for case in ids])
        gains = after - before
        mended, broken = int((gains > 0).sum()), int((gains < 0).sum())
        about = results[ids[0]]
        found.append(
            Remedy(
                model=model,
                method=str(about["label"]),
                is_control=bool(about["is_control"]),
                n=len(ids),
                before=float(before.mean()),
                after=float(after.mean()),
                mended=mended,
                broken=broken,
                points=float(100 * gains.mean()),
                ci95=mean_interval(100 * gains, RESAMPLES) if np.ptp(gains) else None,
                p_value=sign_flip(gains),
            )
        )
    adjusted = holm([remedy.p_value for remedy in found])
    return [replace(remedy, p_value=value) for remedy, value in zip(found, adjusted, strict=True)]
