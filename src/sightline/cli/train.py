"""sightline train: tie a model's words to the image."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from sightline.cli.options import known_model, output_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.cli.train_settings import chosen_options, chosen_settings
from sightline.errors import InputError
from sightline.jobs.settings import ModelSettings
from sightline.runs.folder import fresh_folder
from sightline.runs.processes import launched_as

EPILOG = """\b
Examples:
  sightline train tiny-llava-early --data shapes --out runs/grounded
  sightline train llava-hf/llava-1.5-7b-hf --data captions.jsonl --lora --out runs/llava
  accelerate launch --num_processes 4 -m sightline train MODEL --data captions.jsonl --out runs/four"""


@click.command("train", epilog=EPILOG)
@click.argument("model", callback=known_model)
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="shapes (bundled), a JSON-lines file, or a COCO captions file (.json).",
)
@click.option("--images", type=click.Path(path_type=Path), help="COCO: the folder of its images.")
@click.option("--labels", type=click.Path(path_type=Path), help='A line a sample: {"words": [[start, end, label]]}.')
@click.option("--prompt", help="What captions answer, where the data do not say.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many samples; of shapes, so many are drawn.")
@chosen_options
@click.option("--out", type=click.Path(path_type=Path), help="The folder of the result and its checkpoints.")
@click.option("--resume", is_flag=True, help="Go on from the last whole checkpoint in --out.")
@settings_options(ModelSettings)
@output_options
def command(
    is_json: bool,
    model: str,
    data: str,
    images: Path | None,
    labels: Path | None,
    prompt: str | None,
    limit: int | None,
    resume: bool,
    out: Path | None,
    **chosen: Any,
) -> None:
    """Trains MODEL (a bundled name, a hub name or a folder) with the grounding loss and saves a model like any other.

    Settings are those of --preset, over them those of --config, over them --set and the options here.
    """
    from sightline.jobs.train import train

    output = Output(is_json)
    rank, world = launched_as()
    if out is None and (world > 1 or resume):
        raise InputError("Several processes and --resume need the folder to be named: give --out DIR.")
    folder = out or fresh_folder(f"train-{Path(model).name}")
    loading = {field.name: chosen.pop(field.name) for field in fields(ModelSettings)}
    stopped = (
        f"Stopped from the keyboard; checkpoints are in {folder}: give the same command with --out {folder} --resume "
        "to go on."
    )
    with output.job(folder, stopped=stopped) as on_progress:
        settings = chosen_settings(data, loading["seed"], **chosen)
        files: dict[str, Any] = {"images": images, "labels": labels, "prompt": prompt, "limit": limit}
        found = ModelSettings(**loading)
        draw = on_progress if rank == 0 else None
        trained = train(model, data, settings, out=folder, resume=resume, loading=found, on_progress=draw, **files)
    if rank == 0:
        output.sections(trained.sections())
        output.document(trained.to_dict())
