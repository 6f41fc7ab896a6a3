"""sightline score: answers made anywhere, by the benchmark's official scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.gates import Gates, gate_options, worse_option
from sightline.cli.options import output_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.jobs.evaluation_plan import ScoreSettings

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
@worse_option("ANSWERS", "these answers")
@gate_options
@settings_options(ScoreSettings, without=("template",))
@output_options
def command(is_json: bool, bench: str, fail_if_worse: Path | None, gates: Gates, **options: Any) -> None:
    """Scores answers to BENCH (see `sightline list benches`) as its official script does, or without any guessing.

    Without --data the items are those that the answers carry, else those of the hub. A run folder says itself which
    items are its own, and of which split.
    """
    from sightline.jobs.regressions import not_worse_than_answers
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
        before = [] if fail_if_worse is None else not_worse_than_answers(found, fail_if_worse)
        gates.close([found.as_evaluation()], before)
