"""sightline score: answers made anywhere, by the benchmark's official scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.gates import close, gate_options
from sightline.cli.options import output_options, settings_options
from sightline.cli.output import Output
from sightline.jobs.evaluation_plan import ScoreSettings
from sightline.jobs.gates import FailIf, held, not_worse_than_answers

EXAMPLES = """\b
Examples:
  sightline score pope --answers answers.jsonl --data POPE/output/coco
  sightline score mme --answers eval_tool/Your_Results --json
  sightline score pope --answers runs/pope --method none --items items.jsonl
  sightline score pope --answers new.jsonl --data POPE --fail-if "f1 < 0.8" --fail-if-worse old.jsonl"""


@click.command("score", epilog=EXAMPLES)
@click.argument("bench")
@click.option(
    "--answers",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='JSON lines or a table (tsv, csv, xlsx) with "id", "question_id" or "idx" and the words under "response", '
    '"prediction", "answer", "text", ...; a run folder; or the benchmark\'s official kind.',
)
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="PATH", help="The benchmark's official file or folder."
)
@click.option("--items", type=click.Path(path_type=Path), metavar="FILE", help="Write one line an item to this file.")
@click.option(
    "--fail-if-worse",
    type=click.Path(path_type=Path),
    metavar="ANSWERS",
    help="End with 3 where the headline is worse than that of these answers, all of the paired interval below it.",
)
@gate_options
@settings_options(ScoreSettings, without=("template",))
@output_options
def command(
    is_json: bool,
    bench: str,
    fail_if: list[FailIf],
    fail_if_worse: Path | None,
    junit: Path | None,
    gates_markdown: Path | None,
    **options: Any,
) -> None:
    """Scores answers to BENCH (see `sightline list benches`) as its official script does, or without any guessing.

    Without --data the items are those that the answers carry, else those of the hub. A run folder says itself which
    items it asked, and of which split.
    """
    from sightline.jobs.score import score

    output = Output(is_json)
    with output.guarded():
        found = score(bench, **options)
    output.note(f"The model's words are read under {found.scored.field!r}.")
    for note in found.notes:
        output.note(f"Note: {note}")
    output.document(found.to_dict())
    output.sections(found.sections())
    with output.guarded():
        gates = held([found.as_evaluation()], fail_if)
        gates += [] if fail_if_worse is None else not_worse_than_answers(found, fail_if_worse)
    close(gates, junit, gates_markdown)
