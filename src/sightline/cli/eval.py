"""sightline eval: methods on benchmarks, on the same items, compared in pairs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import click

from sightline.cli.eval_plan import plan_option, show_plan
from sightline.cli.gates import Gates, gate_options, worse_option
from sightline.cli.options import benches_option, methods_option, models_argument, run_folder, run_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options, with_line_breaks
from sightline.jobs.evaluation_plan import EvaluateSettings

EPILOG = """\b
Examples:
  sightline eval tiny-llava --bench shapes-pope --method none --method pai
  sightline eval llava-hf/llava-1.5-7b-hf --bench pope:POPE/output/coco --method none \\
      --method var --sinks runs/sinks/sinks.json --limit 300 --out runs/pope
  accelerate launch --num_processes 4 -m sightline eval MODEL --bench mme:MME --out runs/mme"""


@click.command("eval", epilog=EPILOG)
@models_argument
@benches_option
@methods_option(
    "none, name, or name:field=value,... Repeatable; the others are compared with the first. Without: none."
)
@worse_option("RUN", "this run folder")
@plan_option
@gate_options
@settings_options(EvaluateSettings, parse={"template": with_line_breaks})
@run_options
def command(
    is_json: bool,
    models: tuple[str, ...],
    benches: tuple[str, ...],
    methods: tuple[str, ...],
    out: Path | None,
    fail_if_worse: Path | None,
    plan: float | None,
    gates: Gates,
    track: str | None,
    **fields: Any,
) -> None:
    """Answers of MODEL (a bundled name, a hub name or a folder) to benchmarks under any number of methods.

    All methods get the same items and decode greedily. Each is scored, and compared with the first named by difference,
    paired bootstrap interval, exact sign-flip test and the items that flip. `none`, the model as it is, is a method
    like others: name it to have it. A run folder takes more methods, models and items later.
    """
    from sightline.jobs.evaluate import evaluate
    from sightline.jobs.regressions import not_worse_than_run

    output = Output(is_json)
    if plan is not None:
        show_plan(output, benches, plan, fields)
        return
    folder = run_folder(out, "-".join(["eval", *dict.fromkeys(re.split("[:,]", name)[0] for name in benches)]))
    with output.job(folder, "answers") as on_progress:
        about = {"out": folder, "on_progress": on_progress, "track": track} | fields
        ready = partial(gates.require, before=fail_if_worse)
        found = evaluate(models, benches, methods or ("none",), ready=ready, **about)
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
        before = [] if fail_if_worse is None else not_worse_than_run(found, fail_if_worse)
        gates.close([score.document for score in found.scores], before)
