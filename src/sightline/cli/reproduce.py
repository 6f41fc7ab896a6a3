"""sightline reproduce: a published table, beside its published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import out_option, output_options, run_folder
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.errors import InputError
from sightline.jobs.reproduction_plan import ReproduceSettings
from sightline.published.table import find_reproduction

EPILOG = """\b
Examples:
  sightline reproduce --list
  sightline reproduce langoverrule-image --limit 100 --out runs/table1
  sightline reproduce vcd-pope --data POPE/output/coco --out runs/vcd-pope
  sightline reproduce vcd-pope --model tiny-llava --data shapes-pope --limit 10"""


def _known(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A wrong name is refused before anything is loaded."""
    if value is not None:
        find_reproduction(value)
    return value


@click.command("reproduce", epilog=EPILOG)
@click.argument("name", required=False, callback=_known)
@click.option("--list", "is_list", is_flag=True, help="The published tables there are.")
@out_option
@settings_options(ReproduceSettings)
@output_options
def command(is_json: bool, name: str | None, is_list: bool, out: Path | None, **fields: Any) -> None:
    """Runs what a published table was made by, and prints ours beside the published figures.

    NAME is one of --list. Each table says what model and data it takes, where its figures come from, and what is not as
    in the source. Nothing counts as reproduced unless it was run with those weights on those data.
    """
    from sightline.jobs.reproduce import reproduce

    output = Output(is_json)
    if is_list:
        show_list(output)
        return
    if name is None:
        raise InputError("No table is named: give one of `sightline reproduce --list`.")
    folder = run_folder(out, f"reproduce-{name}")
    with output.job(folder) as on_progress:
        found = reproduce(name, out=folder, on_progress=on_progress, **fields)
    if not found.is_main:
        return  # another process ended at the same time and prints it
    output.failures(found.failed)
    output.sections(found.sections())
    output.document(found.to_dict())
    output.note(f"Kept in {folder}: run.json, samples.jsonl, summary.json.")


def show_list(output: Output) -> None:
    """A table a line, with its source, model and data."""
    from sightline.published.listing import entries

    found = entries()
    output.document({"reproductions": found})
    for entry in found:
        output.text(f"{entry['name']:<26}{entry['about']}")
        output.text(
            f"    {entry['source']}; {entry['model'] or 'give --model'}; published figures: {entry['published']}"
        )
        output.text(f"    data: {entry['data']}")
