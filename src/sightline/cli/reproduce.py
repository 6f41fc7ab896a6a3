"""sightline reproduce: a published table, beside its published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import Common, common_options, sinks_option
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.runs.folder import fresh_folder, launched_as

EPILOG = """\b
Examples:
  sightline reproduce --list
  sightline reproduce langoverrule-image --limit 100 --out runs/table1
  sightline reproduce vcd-pope --data POPE/output/coco --out runs/vcd-pope
  sightline reproduce vcd-pope --model tiny-llava --data shapes-pope --limit 10"""


@click.command("reproduce", epilog=EPILOG)
@click.argument("name", required=False)
@click.option("--list", "is_list", is_flag=True, help="The published tables there are.")
@click.option("--model", help="Another model than the published one: a bundled name, a hub name or a folder.")
@click.option(
    "--data",
    metavar="DATA",
    help="Where the official data stand, or the file that the table asks for; to try it, another benchmark.",
)
@click.option("--image-list", type=click.Path(path_type=Path), metavar="FILE", help="CHAIR: the images to describe.")
@click.option("--synonyms", type=click.Path(path_type=Path), metavar="FILE", help="CHAIR: the list of objects.")
@sinks_option
@click.option("--limit", type=click.IntRange(1), help="Only so many items.")
@click.option("--batch-size", type=click.IntRange(1), help="Samples in one pass; by default as the table is run best.")
@click.option("--layout", type=click.Path(path_type=Path), help="Where text and image stand, for an unknown model.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; an interrupted run in it is continued.")
@click.option("--retry-failed", is_flag=True, help="Do samples that failed before again.")
@common_options
def command(
    common: Common, name: str | None, is_list: bool, sinks: Path | None, out: Path | None, **options: Any
) -> None:
    """Runs what a published table was made by, and prints ours beside the published figures.

    NAME is one of --list. Each table says what model and data it takes, where its figures come from, and what is not as
    in the source. Nothing counts as reproduced unless it was run with those weights on those data.
    """
    from sightline.jobs.reproduce import ENGINES, ReproduceSettings, require_ready
    from sightline.methods.registry import find_sinks_file
    from sightline.pages.tables import reproduce as reproduced
    from sightline.published import find_reproduction

    output = Output(common.json)
    if is_list:
        show_list(output)
        return
    if name is None:
        raise InputError("No table is named: give one of `sightline reproduce --list`.")
    table = find_reproduction(name)
    folder = out or fresh_folder(f"reproduce-{name}")
    rank, world = launched_as()
    if world > 1 and out is None:
        raise InputError("Several processes share one run folder: give --out DIR.")
    order = ReproduceSettings(table, common, folder, sinks=find_sinks_file(sinks), **options)
    require_ready(order)
    try:
        document = ENGINES[table.kind](order, output, rank, world)
    except KeyboardInterrupt:
        raise SightlineError(
            f"Stopped from the keyboard: give the same command with --out {folder} to continue."
        ) from None
    if document is None:
        output.note("Other processes are still at work; the last to end prints the result.")
        return
    reproduced.show(output, document)
    output.document(document)
    output.note(f"Kept in {folder}: run.json, samples.jsonl, summary.json.")


def entries() -> list[dict[str, Any]]:
    """What `--list` and `sightline list reproductions` tell."""
    from sightline.published import reproductions

    return [
        {
            "name": table.name,
            "about": table.title,
            "source": table.source,
            "model": table.model,
            "data": table.data,
            "methods": list(table.methods or table.flows),
            "published": sum(len(entry.figures) or 6 for entry in table.published),
        }
        for table in reproductions().values()
    ]


def show_list(output: Output) -> None:
    """A table a line, with its source, model and data."""
    found = entries()
    output.document({"reproductions": found})
    for entry in found:
        output.text(f"{entry['name']:<26}{entry['about']}")
        output.text(
            f"    {entry['source']}; {entry['model'] or 'give --model'}; published figures: {entry['published']}"
        )
        output.text(f"    data: {entry['data']}")
