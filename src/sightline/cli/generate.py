"""sightline generate: what a model answers."""

from __future__ import annotations

from typing import Any

import click

from sightline.cli.options import Images, known_model, methods_option, output_options, sample_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.errors import InputError
from sightline.jobs.generate import GenerateSettings
from sightline.jobs.sources import single_sample


@click.command(
    "generate", epilog='Example: sightline generate tiny-llava --image scene.png --prompt "Is there a red circle?"'
)
@click.argument("model", callback=known_model)
@sample_options
@methods_option("A method: name, or name:field=value,...")
@settings_options(GenerateSettings)
@output_options
def command(
    is_json: bool,
    model: str,
    images: Images,
    prompt: str | None,
    methods: tuple[str, ...],
    **fields: Any,
) -> None:
    """What MODEL (a bundled name, a hub name or a folder) answers, greedily, with or without a method."""
    from sightline.jobs.generate import generate

    output = Output(is_json)
    if len(methods) > 1:
        raise InputError(
            f"generate takes one --method and is given {len(methods)}, {' and '.join(methods)}: give one; in Python "
            "methods compose in one `with`."
        )
    with output.guarded():
        found = generate(model, single_sample(images, prompt), methods[0] if methods else None, **fields)
    output.document(found.to_dict())
    output.text(found.text)
