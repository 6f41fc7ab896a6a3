"""The controls of each method: what acts alike without its cause, so that a gain which they share is not its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sightline.methods.base import Method


def controls_of(method: Method) -> tuple[str, ...]:
    """Specs of a method's controls, with its own settings where they share them; none for a control itself."""
    rule = _RULES.get(method.name)
    return () if rule is None else tuple(spec for spec in rule(method) if spec != method.spec())


def _same(method: Method, **changes: Any) -> str:
    """The method with some settings changed, as a spec."""
    return dataclasses.replace(method, **changes).spec()


def _contrast(method: Any) -> tuple[str, ...]:
    """The cut-off without the contrast, and a tilt to yes without a look."""
    return (*_cut_off(method), "yes_bias")


def _cut_off(method: Any) -> tuple[str, ...]:
    """The cut-off alone, where the method has one."""
    share = method.floor if method.name == "pai" else method.beta
    return (f"cut_off:beta={share}",) if share else ()


def _pruned(method: Any) -> tuple[str, ...]:
    """As many random tokens."""
    return (f"prune_random:keep={method.keep}",)


def _pai(method: Any) -> tuple[str, ...]:
    return (_same(method, target="text"), *(_contrast(method) if method.gamma != 1 else ()))


def _sinks(method: Any) -> tuple[str, ...]:
    return (method.spec().replace("var", "var_random", 1),)


def _spin(method: Any) -> tuple[str, ...]:
    return (_same(method, by="random"),)


def _vista(method: Any) -> tuple[str, ...]:
    """Its two parts apart, and a random direction."""
    parts = (_same(method, gamma=0.0), _same(method, lam=0.0)) if method.gamma and method.lam else ()
    return (*parts, *((_same(method, random=True),) if method.lam and not method.random else ()))


def _random(method: Any) -> tuple[str, ...]:
    return () if method.random else (_same(method, random=True),)


_RULES: dict[str, Callable[[Any], tuple[str, ...]]] = {
    "adaptvis": lambda method: (_same(method, weak=method.strong, strong=method.weak),),
    "adhh": _random,
    "avisc": _contrast,
    "cdpruner": _pruned,
    "deco": lambda method: (_same(method, alpha=0.0),) if method.alpha else (),
    "divprune": _pruned,
    "dola": _cut_off,
    "eah": _random,
    "fastervlm": lambda method: (method.spec().replace("fastervlm", "fastervlm_random", 1),),
    "fastv": lambda method: (method.spec().replace("fastv", "fastv_random", 1),),
    "icd": _contrast,
    "m3id": lambda method: _contrast(method) if method.form == "code" else ("yes_bias",),
    "memvr": _random,
    "only": _cut_off,
    "opera": lambda method: (_same(method, alpha=0.0, patience=0),),
    "pai": _pai,
    "projectaway": _random,
    "pyramiddrop": _random,
    "registers": _random,
    "sid": _contrast,
    "sparsevlm": lambda method: (*((_same(method, recycle=False),) if method.recycle else ()), *_random(method)),
    "spin": _spin,
    "steer": _random,
    "vaf": lambda method: (_same(method, target="text"),),
    "var": _sinks,
    "vcd": _contrast,
    "vista": _vista,
    "visionzip": lambda method: (*((_same(method, merged=0),) if method.merged else ()), *_pruned(method)),
    "vti": _random,
}
