"""sightline generate: what a model answers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from sightline.cli.options import Common, common_options, known_method, sample_options, sinks_option
from sightline.cli.output import Output
from sightline.errors import InputError
from sightline.jobs.load import load_model
from sightline.jobs.sources import single_sample


@click.command(
    "generate", epilog='Example: sightline generate tiny-llava --image scene.png --prompt "Is there a red circle?"'
)
@click.argument("model")
@sample_options
@click.option("--new-tokens", type=click.IntRange(1), default=128, show_default=True, help="At most so many.")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="SPEC",
    callback=known_method,
    help="A method: name, or name:field=value,...",
)
@sinks_option
@common_options
def command(
    common: Common,
    model: str,
    images: tuple[Path, ...],
    prompt: str | None,
    layout: Path | None,
    new_tokens: int,
    methods: tuple[str, ...],
    sinks: Path | None,
) -> None:
    """What MODEL (a bundled name, a hub name or a folder) answers, greedily, with or without a method."""
    output = Output(common.json)
    if len(methods) > 1:
        raise InputError(
            f"generate takes one --method and is given {len(methods)}, {' and '.join(methods)}: give one; in Python "
            "methods compose in one `with`."
        )
    with output.guarded():
        sample = single_sample(images, prompt)
        document = _generate(common, model, sample, layout, new_tokens, methods[0] if methods else None, sinks)
    output.document(document)
    output.text(document["text"])


def _generate(
    common: Common, model: str, sample: Any, layout: Path | None, new_tokens: int, spec: str | None, file: Path | None
) -> dict[str, Any]:
    from sightline.methods.registry import find_method, find_sinks_file

    sinks = find_sinks_file(file)
    method = find_method(spec, sinks)
    import torch

    torch.manual_seed(common.seed)
    vlm = load_model(model, common, layout)
    if sinks is not None:
        sinks.require_model(vlm.name, vlm.revision, vlm.anatomy.hidden_size)
    inputs = vlm.encode(sample)
    with nullcontext() if method is None else method.on(vlm):
        (tokens,) = vlm.generate_tokens(inputs, max_new_tokens=new_tokens, do_sample=False)
    text = vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    name = "none" if method is None else method.spec()
    return {"model": model, "text": text, "tokens": tokens, "method": name, "revision": vlm.revision}
