"""sightline sinks: which tokens of a model soak up attention and mean nothing, found and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import data_options, known_model, out_option, output_options, run_folder
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.jobs.find_sinks import FindSinksSettings
from sightline.jobs.sources import Data
from sightline.runs.records import read_records

EPILOG = """\b
Examples:
  sightline sinks tiny-llava --data shapes --limit 20 --out runs/sinks
  sightline measure tiny-llava --data shapes --method var --sinks runs/sinks/sinks.json"""

FEW = 10
"""Fewer samples than this say little about a model."""


@click.command("sinks", epilog=EPILOG)
@click.argument("model", callback=known_model)
@data_options
@out_option
@settings_options(FindSinksSettings)
@output_options
def command(is_json: bool, model: str, data: Data, out: Path | None, **fields: Any) -> None:
    """The sink dimensions of MODEL (a bundled name, a hub name or a folder), and a check against its attention.

    Writes sinks.json into the run folder, which --sinks of other commands takes. A few dozen samples are enough.
    """
    from sightline.jobs.find_sinks import find_sinks

    output = Output(is_json)
    folder = out if data.is_single else run_folder(out, f"sinks-{data.name}")
    with output.job(folder) as on_progress:
        sinks = find_sinks(model, data, out=folder, on_progress=on_progress, **fields)
    output.sections(sinks.sections())
    output.document(sinks.to_dict())
    records = [] if folder is None else read_records(folder)
    output.failures(list({record.id: record for record in records if record.error is not None}.values()))
    if sinks.samples < FEW:
        output.note(f"Found on {sinks.samples} sample{'s' * (sinks.samples != 1)}: a few dozen tell more surely.")
    if folder is not None:
        output.note(f"Kept in {folder}: sinks.json, run.json, samples.jsonl, summary.json.")
