"""sightline train: tie a model's words to the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.cli.options import Common, common_options
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.runs.folder import fresh_folder
from sightline.runs.processes import launched_as

if TYPE_CHECKING:
    from sightline.data.training_files import TrainingData
    from sightline.training.settings import TrainSettings
    from sightline.training.trainer import TrainResult

EPILOG = """\b
Examples:
  sightline train tiny-llava-early --data shapes --out runs/grounded
  sightline train llava-hf/llava-1.5-7b-hf --data captions.jsonl --lora --out runs/llava
  accelerate launch --num_processes 4 -m sightline train MODEL --data captions.jsonl --out runs/four"""


@click.command("train", epilog=EPILOG)
@click.argument("model")
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
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings.")
@click.option("--preset", help="Settings to start from: labels (the default), seed (as published), or shapes.")
@click.option("--set", "given", multiple=True, metavar="FIELD=VALUE", help="One setting. Repeatable.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps.")
@click.option("--batch-size", type=click.IntRange(1), help="Samples a forward pass, on each process.")
@click.option("--learning-rate", type=float)
@click.option("--lora", is_flag=True, help="Train low-rank adapters on the decoder.")
@click.option("--qlora", is_flag=True, help="The same on 4-bit weights; needs a CUDA GPU.")
@click.option("--no-grounding", is_flag=True, help="The same steps on the language loss alone.")
@click.option("--no-eval", is_flag=True, help="No evaluation before, between and after.")
@click.option("--out", type=click.Path(path_type=Path), help="The folder of the result and its checkpoints.")
@click.option("--resume", is_flag=True, help="Go on from the last whole checkpoint in --out.")
@common_options
def command(
    common: Common,
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
    output = Output(common.json)
    rank, world = launched_as()
    if out is None and (world > 1 or resume):
        raise InputError("Several processes and --resume need the folder to be named: give --out DIR.")
    with output.guarded():
        settings = _settings(common, data, **chosen)
        found = _data(data, images, labels, prompt, limit, settings.seed)
        told = {**_digests(data, labels), "limit": limit, "prompt": prompt}
        folder = out or fresh_folder(f"train-{Path(model).name}")
        task = Task(model, found, settings, folder, resume, told)
        if rank == 0:
            _note(output, found, settings)
        result = _train(task, common, output, rank)
    if rank == 0:
        document = _document(task, result)
        _show(output, document)
        output.document(document)


@dataclass(frozen=True)
class Task:
    """What is trained on what, how, and where to. about: what --resume holds the folder to beside the settings."""

    model: str
    data: TrainingData
    settings: TrainSettings
    folder: Path
    resume: bool
    about: Mapping[str, Any]


def _settings(
    common: Common,
    data: str,
    *,
    config: Path | None,
    preset: str | None,
    given: tuple[str, ...],
    lora: bool,
    qlora: bool,
    no_grounding: bool,
    no_eval: bool,
    **options: Any,
) -> TrainSettings:
    from sightline.data.training_files import SHAPES
    from sightline.training.settings import read_settings

    if lora and qlora:
        raise InputError("Give --lora or --qlora, not both.")
    settings = read_settings(config, preset or (SHAPES if data == SHAPES and config is None else None))
    values: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    values |= {"method": "qlora" if qlora else "lora"} if lora or qlora else {}
    values |= {"eval_limit": 0} if no_eval else {}
    source = click.get_current_context().get_parameter_source("seed")
    if source is not None and source.name != "DEFAULT":
        values["seed"] = common.seed
    settings = settings.with_values(_pairs(given), "--set").with_values(values)
    return settings.without_grounding() if no_grounding else settings


def _pairs(given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text} is no FIELD=VALUE pair: write for example --set margin=0.3.")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {text} has a value that cannot be read: write it as in YAML.") from None
    return found


def _data(
    data: str, images: Path | None, labels: Path | None, prompt: str | None, limit: int | None, seed: int
) -> TrainingData:
    from sightline.data.training_files import PROMPT, read_training

    if prompt is not None and not prompt.strip():
        raise InputError("--prompt is empty: give the words that captions answer, or leave it out.")
    return read_training(data, images=images, labels=labels, prompt=prompt or PROMPT, limit=limit, seed=seed)


def _digests(data: str, labels: Path | None) -> dict[str, Any]:
    from sightline.files.digest import digest_of

    files = {"data_sha256": Path(data), "labels_sha256": labels}
    return {name: digest_of(path) for name, path in files.items() if path is not None and path.is_file()}


TOLD = 3
"""Samples passed over that are told on standard error."""


def _note(output: Output, data: TrainingData, settings: TrainSettings) -> None:
    for bad in data.bad[:TOLD]:
        output.note(f"{bad.where}: {bad.error}")
    if data.bad:
        output.note(f"{len(data.bad)} entries are passed over; {len(data.samples)} samples are trained on.")
    if settings.needs_negatives and not any(sample.negative for sample in data.samples):
        output.note(
            "No sample has a negative caption beside the true one: `sightline train-data negatives` makes some."
        )


def _train(task: Task, common: Common, output: Output, rank: int) -> TrainResult:
    from sightline.jobs.load import load_model
    from sightline.jobs.train_evaluation import evaluator
    from sightline.memory import is_out_of_memory
    from sightline.training.trainer import check_folder, train

    settings = task.settings
    check_folder(task.folder, settings, task.model, task.data, task.about, task.resume)
    is_qlora = settings.method == "qlora"
    vlm = load_model(task.model, replace(common, quantize="4bit") if is_qlora else common)
    steps = settings.steps or round(settings.epochs * len(task.data.samples) / settings.batch_size)
    with output.progress("Training", steps) as bar:

        def tell(line: Mapping[str, Any]) -> None:
            if "loss" in line:
                terms = " ".join(f"{name} {line[name]:.3f}" for name in ("language", "ground") if name in line)
                bar.update(bar.task_ids[0], completed=line["step"], description=f"Training  {terms}")

        try:
            return train(
                vlm,
                task.data,
                settings,
                task.folder,
                evaluate=evaluator(settings) if settings.eval_limit else None,
                resume=task.resume,
                tell=tell if rank == 0 else lambda line: None,
                about=task.about,
            )
        except KeyboardInterrupt:
            raise SightlineError(
                f"Stopped from the keyboard; checkpoints are in {task.folder}: give the same command with --out "
                f"{task.folder} --resume to go on."
            ) from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise SightlineError(
                f"Memory does not suffice for batches of {settings.batch_size}: lower --batch-size, raise accumulation "
                "by as much, or set checkpointing=true or --lora."
            ) from error


def _document(task: Task, result: TrainResult) -> dict[str, Any]:
    import dataclasses

    evaluations = [{"step": found.step, **found.figures} for found in result.evaluations]
    return {
        "model": task.model,
        "data": task.data.name,
        "samples": len(task.data.samples),
        "passed_over": [{"where": bad.where, "error": bad.error} for bad in result.passed_over],
        "steps": result.steps,
        "resumed_from": result.resumed_from,
        "kept_step": result.kept_step,
        "losses": result.losses,
        "evaluation": {
            "before": evaluations[0] if evaluations else None,
            "after": evaluations[-1] if evaluations else None,
            "all": evaluations,
        },
        "folder": str(result.folder),
        "seconds": result.seconds,
        "settings": dataclasses.asdict(task.settings),
    }


def _show(output: Output, document: Mapping[str, Any]) -> None:
    from sightline.text import number

    title = f"{document['model']} on {document['data']}: {document['steps']} steps"
    rows = [(name, number(of["first"], 4), number(of["last"], 4)) for name, of in document["losses"].items()]
    output.table(title, ("term", "first tenth", "last tenth"), rows)
    before, after = (document["evaluation"][name] for name in ("before", "after"))
    if before and after:
        names = [name for name in after if name != "step"]
        figures = [(name, number(before.get(name), 3), number(after[name], 3)) for name in names]
        output.table("Evaluation", ("figure", "before", "after"), figures)
    folder = document["folder"]
    output.text(f"{folder}: the trained model. Next: sightline eval {folder} --bench shapes-chair")
