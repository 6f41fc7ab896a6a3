"""`train`: a model's words tied to the image; evaluated before, between and after by the settings' own benchmarks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.training_files import PROMPT, read_training
from sightline.data.training_sample import TrainingData
from sightline.errors import InputError, SightlineError, SightlineWarning
from sightline.files.digest import digest_of
from sightline.files.json import json_text, write_atomically
from sightline.jobs.models import ModelSource, model_sources
from sightline.jobs.settings import ModelSettings
from sightline.jobs.train_evaluation import evaluator
from sightline.jobs.training import Training
from sightline.memory import is_out_of_memory
from sightline.runs.folder import SUMMARY_FILE
from sightline.runs.processes import launched_as
from sightline.runs.progress import OnProgress, Progress
from sightline.training.adapters import out_of_float16
from sightline.training.settings import TrainSettings, training_settings
from sightline.training.trainer import check_folder, train_model

if TYPE_CHECKING:
    from sightline.models.vlm import VLM


def train(
    model: Any,
    data: Any,
    settings: TrainSettings | str | Path | None = None,
    *,
    out: str | Path,
    resume: bool = False,
    images: str | Path | None = None,
    labels: str | Path | None = None,
    prompt: str | None = None,
    limit: int | None = None,
    loading: ModelSettings | None = None,
    processor: Any = None,
    on_progress: OnProgress | None = None,
    **fields: Any,
) -> Training:
    """Trains a model with the grounding loss and saves a model like any other.

    Args:
        model: a bundled name, a hub name, a folder, a `VLM`, which is trained in place, or a Transformers model with
            processor=.
        data: "shapes", a JSON-lines file, a COCO captions file, or `TrainingData`.
        settings: `TrainSettings`, a YAML file of them, or a preset's name; by default the preset of the data.
        out: the folder of the result and its checkpoints.
        resume: go on from the last whole checkpoint in `out`.
        images, labels: COCO's folder of images; a file of labelled words.
        prompt: what captions answer, where the data do not say.
        limit: only the first so many samples; of shapes, so many are drawn.
        loading: how a named model is loaded.
        processor: of a Transformers model in memory.
        on_progress: is called as the training goes on.
        fields: single settings, over the others: steps=200, eval_limit=20, keep="best".

    Raises:
        InputError: for settings, data or a folder that do not fit; SightlineError: where memory does not suffice.
    """
    chosen = training_settings(settings, data).with_values(fields) if fields else training_settings(settings, data)
    loaded = ModelSettings() if loading is None else loading
    (source,) = model_sources(model, loaded, processor)
    found = training_data(data, chosen, images=images, labels=labels, prompt=prompt, limit=limit)
    about = {**_digests(data, labels), "limit": limit, "prompt": prompt}
    return run_training(source, found, chosen, Path(out), about, loaded, resume, on_progress)


def training_data(
    data: Any,
    settings: TrainSettings,
    *,
    images: str | Path | None = None,
    labels: str | Path | None = None,
    prompt: str | None = None,
    limit: int | None = None,
) -> TrainingData:
    """The samples of a file, of the bundled world, or as they are."""
    if isinstance(data, TrainingData):
        return data
    if prompt is not None and not prompt.strip():
        raise InputError("The prompt is empty: give the words that captions answer, or leave it out.")
    return read_training(
        str(data),
        images=None if images is None else Path(images),
        labels=None if labels is None else Path(labels),
        prompt=prompt or PROMPT,
        limit=limit,
        seed=settings.seed,
    )


def _digests(data: Any, labels: str | Path | None) -> dict[str, Any]:
    files = {"data_sha256": data, "labels_sha256": labels}
    return {
        name: digest_of(Path(path))
        for name, path in files.items()
        if isinstance(path, str | Path) and Path(path).is_file()
    }


def run_training(
    source: ModelSource,
    data: TrainingData,
    settings: TrainSettings,
    folder: Path,
    about: Mapping[str, Any],
    loading: ModelSettings,
    resume: bool = False,
    on_progress: OnProgress | None = None,
) -> Training:
    """Trains into the folder, and evaluates as the settings say; the folder is checked before the model is loaded."""
    check_folder(folder, settings, source.name, data, about, resume)
    _warn(data, settings)
    steps = settings.steps or round(settings.epochs * len(data.samples) / settings.batch_size)

    def on_line(line: Mapping[str, Any]) -> None:
        if "loss" in line and on_progress is not None:
            terms = " ".join(f"{name} {line[name]:.3f}" for name in ("language", "ground") if name in line)
            on_progress(Progress("Training", int(line["step"]), steps, terms))

    evaluate = evaluator(settings) if settings.eval_limit else None
    vlm = _opened(source, settings, loading)
    if on_progress is not None and not resume:
        on_progress(Progress("Training", 0, steps))
    try:
        result = train_model(
            vlm, data, settings, folder, evaluate=evaluate, resume=resume, on_line=on_line, about=about
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise SightlineError(
            f"Memory does not suffice for batches of {settings.batch_size}: lower --batch-size, raise accumulation "
            "by as much, or set checkpointing=true or --lora."
        ) from error
    found = Training(source.name, data.name, len(data.samples), settings, result)
    if launched_as()[0] == 0:
        write_atomically(folder / SUMMARY_FILE, json_text(found.to_dict(), indent=1))
    return found


def _opened(source: ModelSource, settings: TrainSettings, loading: ModelSettings) -> VLM:
    """The model; one that is named and stored in float16 in bfloat16, unless a dtype is given."""
    if settings.method == "qlora":
        return source.open(replace(loading, quantize="4bit"))
    if loading.dtype == "float16":
        raise InputError("Weights cannot be trained in float16, in which AdamW's steps are no numbers: give bfloat16.")
    vlm = source.open(loading)
    if source.vlm is not None or loading.dtype != "auto":
        return vlm
    return out_of_float16(vlm)


SHOWN = 3
"""Samples passed over that are named."""


def _warn(data: TrainingData, settings: TrainSettings) -> None:
    if data.bad:
        first = "; ".join(f"{bad.where}: {bad.error}" for bad in data.bad[:SHOWN])
        words = f"{len(data.bad)} entries are passed over; {len(data.samples)} samples are trained on. {first}"
        warnings.warn(words, SightlineWarning, stacklevel=3)
    if settings.needs_negatives and not any(sample.negative for sample in data.samples):
        words = "No sample has a negative caption beside the true one: `sightline train-data negatives` makes some."
        warnings.warn(words, SightlineWarning, stacklevel=3)
