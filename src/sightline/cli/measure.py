"""sightline measure: how attention splits between text and image, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import data_options, models_argument, one_method, run_folder, run_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.jobs.measurement_plan import MeasureSettings
from sightline.jobs.sources import Data

EPILOG = """\b
Examples:
  sightline measure tiny-llava --data shapes --limit 20
  sightline measure tiny-llava --image scene.png --prompt "Is there a red circle?"
  sightline measure llava-hf/llava-1.5-7b-hf --data photos.jsonl --out runs/llava --quantize 4bit"""


@click.command("measure", epilog=EPILOG)
@models_argument
@data_options
@one_method("measure")
@click.option(
    "--queries",
    multiple=True,
    default=("generated",),
    show_default="generated",
    type=click.Choice(("generated", "prompt", "all")),
    help="Whose attention is read: that of the rows which predict the answer, of the prompt's text, of all rows. "
    "Repeatable: side by side.",
)
@settings_options(MeasureSettings, without=("queries",))
@run_options
def command(
    is_json: bool,
    models: tuple[str, ...],
    data: Data,
    method: str | None,
    out: Path | None,
    track: str | None,
    **fields: Any,
) -> None:
    """How attention splits between text and image in each layer of MODEL: a bundled name, a hub name or a folder.

    MDI above 1: a text token draws more attention than an image token. Several models are measured one after the other
    into one table. With --method each sample is measured without and with it.
    """
    from sightline.jobs.measure import measure

    output = Output(is_json)
    folder = out if data.is_single else run_folder(out, f"measure-{data.name}")
    with output.job(folder) as on_progress:
        measured = measure(models, data, method=method, out=folder, on_progress=on_progress, track=track, **fields)
    if not measured.is_main:
        return  # another process ended at the same time and prints it
    output.sections(measured.sections())
    output.failures(measured.failed)
    output.document(measured.to_dict())
    if folder is not None:
        sets = list(measured.query_sets)
        files = f"{', '.join(f'{each}/' for each in sets)}, " if len(sets) > 1 else "run.json, samples.jsonl, "
        output.note(f"Kept in {folder}: {files}summary.json, figures/.")
