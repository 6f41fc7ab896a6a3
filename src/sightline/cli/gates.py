"""Options that end a command with 3 where a figure does not hold, and the files that say which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sightline.errors import GateError
from sightline.files.json import write_atomically
from sightline.jobs.gates import FailIf, Gate, markdown, parse_fail_if, write_junit

Function = TypeVar("Function", bound=Callable[..., Any])


def gate_options(function: Function) -> Function:
    """--fail-if, --junit and --gates-markdown."""
    adders = [
        click.option(
            "--fail-if",
            multiple=True,
            metavar="CONDITION",
            callback=_conditions,
            help='End with 3 where it holds, as "accuracy < 0.8" or "pope/splits.random.f1 < 0.8". Repeatable.',
        ),
        click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="The gates as JUnit XML."),
        click.option(
            "--gates-markdown", type=click.Path(path_type=Path), metavar="FILE", help="The gates as a markdown table."
        ),
    ]
    for add in reversed(adders):
        function = add(function)
    return function


def _conditions(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> list[FailIf]:
    return [parse_fail_if(text) for text in value]


def close(gates: Sequence[Gate], junit: Path | None, summary: Path | None) -> None:
    """Writes the files; GateError, in one sentence, where a gate failed."""
    if junit is not None:
        write_junit(junit, gates)
    if summary is not None:
        write_atomically(summary, markdown(gates))
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        first = failed[0]
        raise GateError(
            f"{len(failed)} of {len(gates)} gates failed; the first: {first.name}, {first.condition}: {first.words}."
        )
