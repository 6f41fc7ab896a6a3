"""sightline score: answers made anywhere, by the benchmark's official scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import Common, common_options
from sightline.cli.output import Output
from sightline.jobs.benchmark_items import bench_options
from sightline.pages.tables.score import show_score, write_items

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
@click.option("--field", metavar="NAME", help="Where the model's words stand in a line; without, found by name.")
@click.option("--parser", type=click.Choice(("official", "strict")), default="official", show_default=True)
@click.option("--items", type=click.Path(path_type=Path), metavar="FILE", help="Write one line an item to this file.")
@bench_options
@click.option("--method", metavar="SPEC", help="Whose answers, in a run folder with several methods.")
@click.option("--model", help="Whose answers, in a run folder with several models.")
@click.option("--limit", type=click.IntRange(1), help="How many items were asked, as `eval --limit` takes them.")
@common_options
def command(
    common: Common,
    bench: str,
    answers: Path,
    data: Path | None,
    field: str | None,
    parser: str,
    items: Path | None,
    method: str | None,
    model: str | None,
    limit: int | None,
    **fields: Any,
) -> None:
    """Scores answers to BENCH (see `sightline list benches`) as its official script does, or without any guessing.

    Without --data the items are those that the answers carry, else those of the hub. A run folder says itself which
    items it asked, and of which split.
    """
    output = Output(common.json)
    with output.guarded():
        from sightline.benchmarks import find_bench
        from sightline.benchmarks.answer_files import run_fields
        from sightline.benchmarks.answers import score_answers

        given = {name: value for name, value in fields.items() if value is not None}
        benchmark = find_bench(bench, **(run_fields(bench, answers) | given))
        scored = score_answers(
            benchmark,
            answers,
            data,
            parser="strict" if parser == "strict" else "official",
            method=method,
            model=model,
            seed=common.seed,
            limit=limit,
            field=field,
        )
        if items is not None:
            write_items(items, scored)
    output.note(f"The model's words are read under {scored.field!r}.")
    for note in scored.notes:
        output.note(f"Note: {note}")
    output.document(scored.document)
    show_score(output, f"{benchmark.title}, {parser} parser", scored.document)
