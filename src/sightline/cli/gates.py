"""Options that end a command with 3 where a figure does not hold, and the files that say which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sightline.errors import GateError, InputError
from sightline.files.json import write_atomically
from sightline.jobs.gates import FailIf, Gate, held, markdown, parse_fail_if, require_figures, write_junit

if TYPE_CHECKING:
    from sightline.jobs.evaluation_plan import EvaluationPlan

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Gates:
    """What must hold, and where it is written.

    conditions  of --fail-if
    junit       the file of --junit
    markdown    the file of --gates-markdown
    """

    conditions: list[FailIf]
    junit: Path | None
    markdown: Path | None

    def require(self, plan: EvaluationPlan, before: Path | None) -> None:
        """InputError, before a model is loaded, for a figure or a run before that there is not."""
        from sightline.jobs.regressions import require_run

        require_figures(plan.benches, self.conditions)
        if before is not None:
            require_run(plan, before)

    def close(self, documents: Sequence[Mapping[str, Any]], more: Sequence[Gate] = ()) -> None:
        """Writes the files; GateError, in one sentence, where a condition or one of `more` failed."""
        gates = [*held(documents, self.conditions), *more]
        if self.junit is not None:
            write_junit(self.junit, gates)
        if self.markdown is not None:
            write_atomically(self.markdown, markdown(gates))
        failed = [gate for gate in gates if not gate.passed]
        if failed:
            first = failed[0]
            raise GateError(
                f"{len(failed)} of {len(gates)} gates failed; the first: {first.name}, {first.condition}: "
                f"{first.words}."
            )


def gate_options(function: Function) -> Function:
    """--fail-if, --junit and --gates-markdown, which the command is given as `gates`."""

    @wraps(function)
    def command(
        *args: Any, fail_if: list[FailIf], junit: Path | None, gates_markdown: Path | None, **options: Any
    ) -> Any:
        return function(*args, gates=Gates(fail_if, junit, gates_markdown), **options)

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
    decorated: Any = command
    for add in reversed(adders):
        decorated = add(decorated)
    return decorated  # type: ignore[no-any-return]


def worse_option(metavar: str, than: str) -> Callable[[Function], Function]:
    """--fail-if-worse, with what it compares to."""
    return click.option(
        "--fail-if-worse",
        type=click.Path(path_type=Path),
        metavar=metavar,
        help=f"End with 3 where a headline is worse than that of {than}, all of the paired interval below it.",
    )


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
