"""What transformers.Trainer gets of the settings."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.models.transformers_api.loading import checkpointing_options
from sightline.runs.processes import launched_as
from sightline.training.folder import CHECKPOINTS

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.training.settings import TrainSettings


def require_reporter(name: str) -> None:
    """InputError where losses are to be reported to a service whose package is not installed."""
    wanted = {"trackio": ("trackio",), "wandb": ("wandb",), "tensorboard": ("tensorboard", "tensorboardX")}
    if name in wanted and not any(importlib.util.find_spec(module) for module in wanted[name]):
        raise InputError(f"report_to is {name}, which is not installed: pip install {name}, or give none.")


def training_arguments(vlm: VLM, settings: TrainSettings, folder: Path) -> Any:
    """What `transformers.Trainer` gets."""
    from transformers import TrainingArguments

    names = {entry.name for entry in dataclasses.fields(TrainingArguments)}
    options = checkpointing_options(settings.checkpointing, names)
    is_on_cpu = vlm.device.type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        max_steps=settings.steps or -1,
        num_train_epochs=settings.epochs or 1.0,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup,
        lr_scheduler_type=settings.schedule,
        max_grad_norm=settings.clip,
        bf16=settings.bf16,
        seed=settings.seed,
        data_seed=settings.seed,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=not is_on_cpu,
        logging_steps=settings.log_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.save_steps else "no",
        save_steps=settings.save_steps or 500,
        save_total_limit=2,
        eval_strategy="no",
        report_to=[] if settings.report_to == "none" else [settings.report_to],
        run_name=folder.name,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        use_cpu=is_on_cpu,
        ddp_backend="gloo" if is_on_cpu and launched_as()[1] > 1 else None,
        ddp_find_unused_parameters=settings.vision_tower,  # a tower's last layers may be left unread
        ddp_broadcast_buffers=False,  # a negative runs between a forward pass and its backward one
        **options,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # several GPUs are several processes; data parallelism in one copies the model each step
    return arguments
