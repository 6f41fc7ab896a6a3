"""sightline train-data: what a training is fed with."""

from __future__ import annotations

from pathlib import Path

import click

from sightline.cli.options import common_options
from sightline.cli.output import Output
from sightline.cli.training_file import document_of_file, require_writable, write_whole


@click.group("train-data", epilog="Example: sightline train-data negatives --data shapes --out negatives.jsonl")
def command() -> None:
    """Makes training data."""


@command.command(
    "negatives", epilog="Example: sightline train-data negatives --data captions_train2017.json --out n.jsonl"
)
@click.option("--data", required=True, metavar="DATA", help="shapes, a JSON-lines file, or a COCO captions file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The JSON-lines file to write.")
@click.option("--images", type=click.Path(path_type=Path), help="COCO: the folder of its images.")
@click.option("--instances", type=click.Path(path_type=Path), help="COCO: the objects of each image.")
@click.option("--kinds", default="object,attribute,count", show_default=True, help="What is swapped; they take turns.")
@click.option("--ratio", type=float, default=1.0, show_default=True, help="False captions for each true one, up to 1.")
@click.option(
    "--together",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of stand-in objects that keep company with what is there; the others are any absent ones.",
)
@click.option("--limit", type=click.IntRange(1), help="Only the first so many samples.")
@click.option("--force", is_flag=True, help="Replace the file.")
@common_options
def negatives_command(
    is_json: bool,
    seed: int,
    data: str,
    out: Path,
    images: Path | None,
    instances: Path | None,
    kinds: str,
    ratio: float,
    together: float,
    limit: int | None,
    force: bool,
) -> None:
    """False captions by swapping objects, attributes or counts for what the image does not hold, with word labels.

    Each line of --out is a sample with its answer and "words", and where there is one "negative" and "negative_words":
    [start, end, label] in characters, label 1 grounded, 0 hallucinated. The same seed makes the same file.
    """
    from sightline.data.negatives import make_negatives
    from sightline.data.training_files import read_training

    output = Output(is_json)
    require_writable(out, [Path(data), instances], force)
    chosen = [kind.strip() for kind in kinds.split(",") if kind.strip()]
    with output.guarded():
        found = read_training(data, images=images, instances=instances, limit=limit, seed=seed)
        made = make_negatives(found, kinds=chosen, ratio=ratio, together=together, seed=seed)
        write_whole(out, made)
    for bad in found.bad[:3]:
        output.note(f"{bad.where}: {bad.error}")
    if found.name != "shapes" and not found.objects:
        output.note("Without --instances an object counts as absent that no caption of the image names.")
    document = document_of_file(found, made, out) | {"ratio": ratio, "kinds": chosen, "seed": seed}
    output.document(document)
    output.text(
        f"{out}: {document['samples']} samples, {document['negatives']} with a false caption; "
        f"{document['passed_over']} entries passed over."
    )
