"""sightline measure: how attention splits between text and image, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import (
    data_options,
    given_data,
    known_model,
    method_option,
    out_option,
    output_options,
    settings_options,
    track_option,
)
from sightline.cli.output import Output
from sightline.jobs.measurement_plan import MeasureSettings
from sightline.runs.folder import fresh_folder
from sightline.runs.processes import launched_as

EPILOG = """\b
Examples:
  sightline measure tiny-llava --data shapes --limit 20
  sightline measure tiny-llava --image scene.png --prompt "Is there a red circle?"
  sightline measure llava-hf/llava-1.5-7b-hf --data photos.jsonl --out runs/llava --quantize 4bit"""


@click.command("measure", epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", callback=known_model)
@data_options
@method_option
@out_option()
@click.option(
    "--queries",
    multiple=True,
    default=("generated",),
    show_default="generated",
    type=click.Choice(("generated", "prompt", "all")),
    help="Whose attention is read: that of the rows which predict the answer, of the prompt's text, of all rows. "
    "Repeatable: side by side.",
)
@track_option
@settings_options(MeasureSettings, without=("queries",))
@output_options
def command(
    is_json: bool,
    models: tuple[str, ...],
    data: str | None,
    images: tuple[Path, ...],
    prompt: str | None,
    method: str | None,
    out: Path | None,
    track: str | None,
    **fields: Any,
) -> None:
    """How attention splits between text and image in each layer of MODEL: a bundled name, a hub name or a folder.

    MDI above 1: a text token draws more attention than an image token. Several models are measured one after the other
    into one table. With --method each sample is measured without and with it.
    """
    output = Output(is_json)
    with output.guarded():
        found = given_data(data, images, prompt, fields["limit"], fields["seed"])
    from sightline.jobs.measure import measure

    folder = out
    if out is None and not found.is_single and launched_as()[1] == 1:
        folder = fresh_folder(f"measure-{found.name}")
    with output.job(folder) as on_progress:
        measured = measure(models, found, method=method, out=folder, on_progress=on_progress, track=track, **fields)
    if not measured.is_main:
        return  # another process ended at the same time and prints it
    output.sections(measured.sections())
    output.failures(measured.failed)
    output.document(measured.to_dict())
    if folder is not None:
        output.note(f"Kept in {folder}: run.json, samples.jsonl, summary.json, figures/.")
