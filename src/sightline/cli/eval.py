"""sightline eval: methods on benchmarks, on the same items, compared in pairs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from sightline.cli.eval_plan import show_plan
from sightline.cli.gates import close, gate_options
from sightline.cli.options import (
    known_benchmark,
    known_method,
    known_model,
    out_option,
    output_options,
    settings_options,
    track_option,
)
from sightline.cli.output import Output
from sightline.jobs.evaluation_plan import EvaluateSettings
from sightline.jobs.gates import FailIf, held, not_worse_than_run
from sightline.runs.folder import fresh_folder
from sightline.runs.processes import launched_as

EPILOG = """\b
Examples:
  sightline eval tiny-llava --bench shapes-pope --method none --method pai
  sightline eval llava-hf/llava-1.5-7b-hf --bench pope:POPE/output/coco --method none \\
      --method var --sinks runs/sinks/sinks.json --limit 300 --out runs/pope
  accelerate launch --num_processes 4 -m sightline eval MODEL --bench mme:MME --out runs/mme"""


@click.command("eval", epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", callback=known_model)
@click.option(
    "--bench",
    "benches",
    multiple=True,
    required=True,
    metavar="BENCH[:PATH]",
    callback=known_benchmark,
    help="A benchmark (see `sightline list benches`), from a local file or folder or else by its official name from "
    "the hub; its own options behind commas, as chair:COCO,synonyms=FILE. Repeatable.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="SPEC",
    callback=known_method,
    help="none, name, or name:field=value,... Repeatable; the others are compared with the first. Without: none alone.",
)
@out_option()
@click.option(
    "--fail-if-worse",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="End with 3 where a headline is worse than that of this run folder, all of the paired interval below it.",
)
@click.option(
    "--plan",
    type=float,
    metavar="DIFFERENCE",
    help="Load no model; say how many items a difference in accuracy needs, as 0.02, and what those here can find.",
)
@gate_options
@track_option
@settings_options(EvaluateSettings)
@output_options
def command(
    is_json: bool,
    models: tuple[str, ...],
    benches: tuple[str, ...],
    methods: tuple[str, ...],
    out: Path | None,
    template: str | None,
    fail_if: list[FailIf],
    fail_if_worse: Path | None,
    plan: float | None,
    junit: Path | None,
    gates_markdown: Path | None,
    track: str | None,
    **fields: Any,
) -> None:
    """Answers of MODEL (a bundled name, a hub name or a folder) to benchmarks under any number of methods.

    All methods get the same items and decode greedily. Each is scored, and compared with the first named by difference,
    paired bootstrap interval, exact McNemar test and the items that flip. `none`, the model as it is, is a method like
    others: name it to have it. A run folder takes more methods, models and items later.
    """
    from sightline.jobs.evaluate import evaluate

    output = Output(is_json)
    if plan is not None:
        show_plan(output, benches, plan, fields)
        return
    names = "-".join(dict.fromkeys(re.split("[:,]", name)[0] for name in benches))
    folder = fresh_folder(f"eval-{names}") if out is None and launched_as()[1] == 1 else out
    words = None if template is None else template.replace("\\n", "\n")  # line breaks are hard to type in some shells
    with output.job(folder, "answers") as on_progress:
        given: dict[str, Any] = {"out": folder, "on_progress": on_progress, "track": track, "template": words}
        found = evaluate(models, benches, methods or ("none",), **given, **fields)
    if not found.is_main:
        return  # another process ended at the same time and prints it
    output.sections(found.sections())
    output.failures(found.failed, "Item")
    for note in found.notes():
        output.note(f"Note: {note}")
    output.document(found.to_dict())
    lines = ", ".join(map(str, found.lines_files()))
    output.note(f"Raw answers: {lines}. Also in {folder}: summary.json, table.csv, table.md, table.tex.")
    with output.guarded():
        gates = held([score.document for score in found.scores], fail_if)
        gates += [] if fail_if_worse is None else not_worse_than_run(found, fail_if_worse)
    close(gates, junit, gates_markdown)
