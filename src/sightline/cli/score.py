"""sightline score: answers made anywhere, by the benchmark's official scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import output_options, settings_options
from sightline.cli.output import Output
from sightline.jobs.score import ScoreSettings

EXAMPLES = """\b
Examples:
  sightline score pope --answers answers.jsonl --data POPE/output/coco
  sightline score mme --answers eval_tool/Your_Results --json
  sightline score pope --answers runs/pope --method none --items items.jsonl"""


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
@settings_options(ScoreSettings, without=("template",))
@output_options
def command(is_json: bool, bench: str, **options: Any) -> None:
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
