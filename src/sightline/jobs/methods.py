"""The methods of a job, as the user wrote them and in full, and the model's sinks that some of them need."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.jobs.blind import VIEWS, View
from sightline.methods.base import Method
from sightline.methods.controls_of import controls_of
from sightline.methods.registry import find_method
from sightline.probes import sinks as sink_probes

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks

NONE = "none"

TEMPERATURES = (0.5, 1.0)
"""Of the trivial baselines."""


@dataclass(frozen=True)
class MethodSpec:
    """A method. label: as the user wrote it. name: in full, as the run folder calls it. method: None of `none`.

    view: without which image items are shown, to see what it earns; None: as they are. temperature: of answers that
    are drawn, where the spec is a baseline; None: as the settings say.
    """

    label: str
    name: str
    method: Method | None = None
    view: View | None = None
    temperature: float | None = None


def method_specs(methods: Any, sinks: Sinks | None = None) -> tuple[MethodSpec, ...]:
    """The methods that a job is given: specs, `Method`s, None for the model as it is; one, or several in a list.

    sinks: the model's, whose dimensions and threshold a method takes that has none. Raises InputError for an unknown
    method, for what is missing in one, and where two are the same.
    """
    many = methods if isinstance(methods, Sequence) and not isinstance(methods, str) else [methods]
    found: list[MethodSpec] = []
    for given in many:
        spec = _spec(given, sinks)
        same = next((other.label for other in found if other.name == spec.name), None)
        if same is not None:
            raise InputError(f"The methods '{same}' and '{spec.label}' are the same: name each once.")
        found.append(spec)
    if not found:
        raise InputError("There is no method: give at least one; `none` is the model as it is.")
    return tuple(found)


def blind_specs(first: MethodSpec) -> tuple[MethodSpec, ...]:
    """The first method without the image, with a blank one, and with another item's."""
    return tuple(MethodSpec(view, f"{first.name}@{view}", first.method, view) for view in VIEWS)


def baseline_specs(first: MethodSpec) -> tuple[MethodSpec, ...]:
    """The first method with answers drawn at TEMPERATURES: what any change of the answers does, good or bad."""
    return tuple(
        MethodSpec(f"temperature={value:g}", f"{first.name}@temperature={value:g}", first.method, None, value)
        for value in TEMPERATURES
    )


def with_controls(specs: tuple[MethodSpec, ...], sinks: Sinks | None = None) -> tuple[MethodSpec, ...]:
    """The methods, and behind them the controls of each that are not there yet; of contrasts also a tilted prompt."""
    found = list(specs)
    for spec in specs:
        for label in () if spec.method is None else controls_of(spec.method):
            control = _spec(label, sinks)
            if control.name not in {other.name for other in found}:
                found.append(control)
    if any(spec.method is not None and "yes_bias" in controls_of(spec.method) for spec in specs):
        found.append(MethodSpec("prompt tilt", f"{NONE}@prompt tilt", None, "prompt tilt"))
    return tuple(found)


def beside(specs: tuple[MethodSpec, ...], settings: Any, sinks: Sinks | None = None) -> tuple[MethodSpec, ...]:
    """The methods, and beside them what the settings of an evaluation add: controls, views, baselines.

    The first control of all is the model as it is: it stands in front where it is not among them.
    """
    if settings.controls:
        plain = () if any(spec.method is None for spec in specs) else (MethodSpec(NONE, NONE),)
        specs = with_controls((*plain, *specs), sinks)
    specs = specs + blind_specs(specs[0]) if settings.blind else specs
    return specs + baseline_specs(specs[0]) if settings.baselines else specs


def _spec(given: Any, sinks: Sinks | None) -> MethodSpec:
    if given is None:
        return MethodSpec(NONE, NONE)
    if isinstance(given, str):
        label = given.strip()
        method = find_method(label, sinks)
        return MethodSpec(label, NONE if method is None else method.spec(), method)
    if not isinstance(given, Method):
        raise InputError(f"{type(given).__name__} is no method: give a spec such as 'vcd', or one as sl.VCD().")
    method = given if sinks is None else _with_sinks(given, sinks)
    method.require_complete()
    return MethodSpec(given.spec(), method.spec(), method)


def _with_sinks(method: Method, sinks: Sinks) -> Method:
    """The method with the model's dimensions and threshold where it has its defaults of these."""
    values = {"dims": sinks.dims, "tau": sinks.tau}
    missing = {
        field.name: values[field.name]
        for field in dataclasses.fields(method)
        if field.name in values and getattr(method, field.name) == field.default
    }
    return dataclasses.replace(method, **missing)


def sinks_of(given: str | Path | Sinks | None) -> Sinks | None:
    """The sinks of a file, of a run folder, or as they are; InputError for a file that holds none."""
    if not isinstance(given, str | Path):
        return given
    if str(given) == "auto":
        raise InputError("Sinks are found on the first samples by measure and eval alone: give a file of `sinks`.")
    return sink_probes.read_sinks(given)
