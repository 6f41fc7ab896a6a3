"""Options that end a command with 3 where a figure does not hold, and the files that say which."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from sightline.errors import GateError, InputError
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
        _file_option("--junit", "The gates as JUnit XML."),
        _file_option("--gates-markdown", "The gates as a markdown table."),
    ]
    for add in reversed(adders):
        function = add(function)
    return function


def _file_option(name: str, text: str) -> Callable[[Function], Function]:
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option(name, type=kind, metavar="FILE", callback=_in_a_folder, help=text)


def _in_a_folder(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Before the run, not behind it."""
    if value is not None and not value.absolute().parent.is_dir():
        raise InputError(f"{parameter.opts[0]} {value} is in no folder that exists: make it first.")
    return value


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
