"""sightline compare: answers made anywhere against each other, in pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.gates import Gates, gate_options
from sightline.cli.options import output_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.errors import InputError
from sightline.jobs.evaluation_plan import ScoreSettings

EXAMPLES = """\b
Examples:
  sightline compare pope --answers before.jsonl --answers after.jsonl --data POPE/output/coco
  sightline compare pope --answers runs/pope --answers runs/pope --method none --method var
  sightline compare mme --answers eval_tool/A --answers eval_tool/B --json"""


@click.command("compare", epilog=EXAMPLES)
@click.argument("bench")
@click.option(
    "--answers",
    "sides",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="An answers file, a folder of official files or a run folder, as `score` takes them. Twice or more: the "
    "others are compared with the first.",
)
@click.option("--data", type=click.Path(path_type=Path), metavar="PATH", help="The benchmark's official files.")
@click.option("--method", "methods", multiple=True, metavar="SPEC", help="Whose answers, once for each run folder.")
@click.option("--fail-if-worse", is_flag=True, help="End with 3 where a headline is worse than the first's, surely.")
@gate_options
@settings_options(ScoreSettings, without=("template", "method", "model", "limit"))
@output_options
def command(
    is_json: bool,
    bench: str,
    sides: tuple[Path, ...],
    data: Path | None,
    methods: tuple[str, ...],
    fail_if_worse: bool,
    gates: Gates,
    **fields: Any,
) -> None:
    """Answers to BENCH (see `sightline list benches`) of several methods or models, compared on the same items.

    Each set is scored; the others are compared with the first by difference, paired bootstrap interval, exact sign-flip
    test with Holm's adjustment, and the items that flip.
    """
    if len(sides) < 2:
        raise InputError("One set of answers has nothing to be compared with: give --answers twice or more.")
    output = Output(is_json)
    with output.guarded():
        from sightline.jobs.compare import compare
        from sightline.jobs.regressions import not_worse
        from sightline.pages.tables.evaluate import sections

        settings = ScoreSettings(**fields)
        found = compare(
            bench,
            *sides,
            data=data,
            parser=settings.parser,
            seed=settings.seed,
            methods=methods,
            field=settings.field,
            **settings.of_bench(),
        )
    for note in found.notes:
        output.note(f"Note: {note}")
    output.sections(sections([found.to_dict()]))
    output.document(found.to_dict())
    gates.close([found.to_dict()], not_worse([found.to_dict()]) if fail_if_worse else [])
