"""sightline generate: what a model answers."""

from __future__ import annotations

from typing import Any

import click

from sightline.cli.options import Images, known_model, one_method, output_options, sample_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.jobs.generate import GenerateSettings
from sightline.jobs.sources import single_sample


@click.command(
    "generate", epilog='Example: sightline generate tiny-llava --image scene.png --prompt "Is there a red circle?"'
)
@click.argument("model", callback=known_model)
@sample_options
@one_method("generate")
@settings_options(GenerateSettings)
@output_options
def command(
    is_json: bool,
    model: str,
    images: Images,
    prompt: str | None,
    method: str | None,
    **fields: Any,
) -> None:
    """What MODEL (a bundled name, a hub name or a folder) answers, greedily, with or without a method."""
    from sightline.jobs.generate import generate

    output = Output(is_json)
    with output.guarded():
        found = generate(model, single_sample(images, prompt), method, **fields)
    output.document(found.to_dict())
    output.text(found.text)
