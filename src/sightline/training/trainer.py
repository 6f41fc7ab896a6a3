"""Training a vision-language model to tie its words to the image: from samples and settings to a folder that loads.

out/config.json, model.safetensors, ...   the result, as any model: `sightline.load(out)`
out/adapter/                              of LoRA: the adapters alone; the result has them merged
out/grounding_head.*                      what scores learned, where they learn
out/checkpoints/checkpoint-<step>/        to go on from; the last two, and the best
out/training.json                         settings, model, data: what `resume` holds a folder to
out/log.jsonl                             a line of losses every so many steps
out/evaluations.json                      every evaluation
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.training_files import BadLine, TrainingData, TrainingSample
from sightline.errors import InputError, SightlineError
from sightline.files.json import json_text, write_atomically
from sightline.models.transformers_api import checkpointing_options
from sightline.runs.processes import held_alone, launched_as
from sightline.training import adapters
from sightline.training.checkpoints import checkpoints, drop_torn, is_whole, last_whole, step_of
from sightline.training.collator import Collator, TrainingSet
from sightline.training.steps import HEAD, Evaluate, Evaluation, GroundingTrainer, Tell, TrainingState

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.probes.grounding.head import GroundingHead
    from sightline.training.settings import TrainSettings

__all__ = ["Evaluation", "GroundingTrainer", "TrainResult", "train"]

TRAINING_FILE, LOG_FILE, EVALUATIONS_FILE, CHECKPOINTS = "training.json", "log.jsonl", "evaluations.json", "checkpoints"
FREE = {"workers", "log_steps", "save_steps", "eval_steps", "eval_limit", "eval_benches", "report_to"}
"""Settings that change no weight: they may differ when a training is gone on with."""


@dataclass(frozen=True)
class TrainResult:
    """How a training went.

    folder       the result, for `sightline.load`
    steps        optimiser steps in all; resumed_from: of them before this start
    log          every line of losses: "step", "loss", "language", "ground", "contrast", "grounded", "hallucinated", ...
    evaluations  the first is of the model as it was, the last of the result
    kept_step    after which the result's weights were
    passed_over  samples that were not trained on, each with a sentence
    seconds      of this start
    """

    folder: Path
    steps: int
    log: tuple[Mapping[str, float], ...]
    evaluations: tuple[Evaluation, ...] = ()
    kept_step: int = 0
    resumed_from: int = 0
    passed_over: tuple[BadLine, ...] = ()
    seconds: float = 0.0

    @property
    def losses(self) -> dict[str, dict[str, float]]:
        """Of each term its mean over the first and over the last tenth of the lines."""
        lines = [line for line in self.log if "loss" in line]
        tenth = max(1, len(lines) // 10)
        names = ("loss", "language", "ground", "contrast", "grounded", "hallucinated")
        return {
            name: {"first": _mean(name, lines[:tenth]), "last": _mean(name, lines[-tenth:])}
            for name in names
            if any(name in line for line in lines)
        }


def _mean(name: str, lines: Sequence[Mapping[str, float]]) -> float:
    found = [line[name] for line in lines if name in line]
    return sum(found) / len(found) if found else float("nan")


def train(
    model: str | VLM,
    samples: TrainingData | Sequence[TrainingSample],
    settings: TrainSettings,
    out: str | Path,
    *,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    tell: Tell = lambda line: None,
    about: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train a model, in place where a `VLM` is given, and save the result.

    Args:
        evaluate: what to find out about the model before, every `eval_steps` steps, and after.
        resume: go on from the last whole checkpoint in `out`; without one, from the start.
        tell: told each line of the log.
        about: what else `resume` should hold the folder to, as a digest of the data.

    Under `accelerate launch` or torchrun every process calls this; the first writes.

    Raises:
        InputError: for data without a usable sample, a folder that holds another training or was not asked to be
            resumed, and settings that do not fit the model or the machine.
        SightlineError: when the loss is not a number any more.
    """
    folder = Path(out)
    data = samples if isinstance(samples, TrainingData) else TrainingData("samples", tuple(samples))
    _require_reporter(settings.report_to)
    name = model if isinstance(model, str) else model.name
    if settings.keep == "best" and evaluate is None:
        raise InputError("keep is best, and nothing is evaluated: give an evaluation (eval_limit), or keep the last.")
    document = _told(settings, name, data, about or {})
    _checked(folder, document, resume)
    with _owned(folder):
        last = _claim(folder, document, resume)
        try:
            return _trained(_loaded(model, settings), data, settings, folder, last, evaluate, tell)
        except SightlineError:
            _release(folder)
            raise


def _trained(
    vlm: VLM,
    data: TrainingData,
    settings: TrainSettings,
    folder: Path,
    last: Path | None,
    evaluate: Evaluate | None,
    tell: Tell,
) -> TrainResult:
    from transformers import set_seed

    begun = time.monotonic()
    collator = Collator(vlm)
    faults = {sample.id: fault for sample in data.samples if (fault := collator.fault(sample))}
    usable = [sample for sample in data.samples if sample.id not in faults]
    if not usable:
        raise InputError(
            "Not one sample can be trained on" + "".join(f"; the first: {fault}" for fault in list(faults.values())[:1])
        )
    set_seed(settings.seed)
    trained = adapters.prepare(vlm, settings)
    head = _head(vlm, trained, settings)
    course = TrainingState(folder / LOG_FILE, tell, _evaluations(folder, last), step_of(last) if last else 0)
    chosen = TrainingSet(usable)
    trainer = GroundingTrainer(
        vlm, trained, _arguments(vlm, settings, folder), chosen, settings, course, head, evaluate
    )
    _restart_log(trainer, course, last)
    use_cache = getattr(vlm.model.config, "use_cache", None)
    if not course.evaluations:
        trainer.evaluate()
    _run(trainer, last)
    kept = _keep(trainer, settings)
    trainer.evaluate()
    if trainer.is_world_process_zero():
        if use_cache is not None:
            vlm.model.config.use_cache = use_cache
        trained.eval()
        with trainer._headless():
            adapters.save(vlm, trained, settings, folder, head)
        told = [{"step": found.step, "score": found.score, "figures": found.figures} for found in course.evaluations]
        write_atomically(folder / EVALUATIONS_FILE, json_text(told, indent=1))
    trainer.accelerator.wait_for_everyone()
    if hasattr(trained, HEAD):
        delattr(trained, HEAD)
    passed = [BadLine(key, fault) for key, fault in {**faults, **chosen.bad}.items()]
    return TrainResult(
        folder=folder,
        steps=trainer.state.global_step,
        log=tuple(_lines(course.log)),
        evaluations=tuple(course.evaluations),
        kept_step=kept,
        resumed_from=course.begun,
        passed_over=(*data.bad, *passed),
        seconds=time.monotonic() - begun,
    )


def _require_reporter(name: str) -> None:
    import importlib.util

    wanted = {"trackio": ("trackio",), "wandb": ("wandb",), "tensorboard": ("tensorboard", "tensorboardX")}
    if name in wanted and not any(importlib.util.find_spec(module) for module in wanted[name]):
        raise InputError(f"report_to is {name}, which is not installed: pip install {name}, or give none.")


def _loaded(model: str | VLM, settings: TrainSettings) -> VLM:
    if not isinstance(model, str):
        return model
    from sightline.models.vlm import load

    return load(model, quantize="4bit" if settings.method == "qlora" else None)


def _head(vlm: VLM, trained: Any, settings: TrainSettings) -> GroundingHead | None:
    grounding = settings.grounding()
    grounding.chosen_layers(vlm.anatomy)  # a layer that there is not is told before anything is done
    if not grounding.is_learned or not settings.has_grounding:
        return None
    head = grounding.make_head(vlm, settings.seed)
    trained.add_module(HEAD, head)
    return head


# The folder ----------------------------------------------------------------------------------------------------------


def check_folder(
    folder: Path, settings: TrainSettings, model: str, data: TrainingData, about: Mapping[str, Any], resume: bool
) -> None:
    """InputError where `train` would refuse the folder; nothing is written. For before a model is loaded."""
    _checked(folder, _told(settings, model, data, about), resume)
    _require_reporter(settings.report_to)


def _told(settings: TrainSettings, model: str, data: TrainingData, about: Mapping[str, Any]) -> dict[str, Any]:
    whole = {"settings": dataclasses.asdict(settings), "about": {"model": model, "data": data.name, **about}}
    plain: dict[str, Any] = json.loads(json_text(whole))
    return plain


def _checked(folder: Path, told: Mapping[str, Any], resume: bool) -> None:
    known = _read(folder / TRAINING_FILE)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder to train into.")
    is_first = launched_as()[0] == 0
    if known is None:
        if folder.is_dir() and is_first and not _is_bare(folder):
            raise InputError(f"The folder {folder} holds something else: give an empty or a new one to train into.")
    elif resume or not is_first:
        _require_same(known, told, folder)
    else:
        raise InputError(f"The folder {folder} holds a training already: resume it, or give another.")


def _claim(folder: Path, told: Mapping[str, Any], resume: bool) -> Path | None:
    """The checkpoint to go on from; the folder belongs to this training from now on."""
    _checked(folder, told, resume)
    place = folder / CHECKPOINTS
    if launched_as()[0] == 0:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written ({error.strerror}): give another.") from error
        if resume:
            drop_torn(place)
        write_atomically(folder / TRAINING_FILE, json_text(told, indent=1))
    return last_whole(place) if resume else None


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Inside, no other training may write into the folder; of several processes the first holds it for all."""
    if launched_as()[0]:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be written ({error.strerror}): give another.") from error
    with held_alone(folder, "trained into"):
        yield


def _is_bare(folder: Path) -> bool:
    """Whether a folder holds nothing but an empty folder of checkpoints, as a kill right at the start leaves it."""
    place = folder / CHECKPOINTS
    return all(path == place for path in folder.iterdir()) and not (place.is_dir() and any(place.iterdir()))


def _release(folder: Path) -> None:
    """A training that ended before anything came of it leaves its folder free, for a command that is set right."""
    place, log = folder / CHECKPOINTS, folder / LOG_FILE
    if launched_as()[0] or checkpoints(place) or any(line.get("step") for line in _lines(log)):
        return
    if not (folder / "config.json").exists():
        for file in (folder / TRAINING_FILE, log):
            file.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            place.rmdir()


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _require_same(known: Mapping[str, Any], told: Mapping[str, Any], folder: Path) -> None:
    for part in ("about", "settings"):
        before = known.get(part, {})
        for name, value in told[part].items():
            if name not in FREE and before.get(name) != value:
                raise InputError(
                    f"The training in {folder} had {name} {before.get(name)!r} and not {value!r}: resume it with the "
                    "same, or give another --out."
                )


def _evaluations(folder: Path, last: Path | None) -> list[Evaluation]:
    """Those made up to the checkpoint, from its log."""
    if last is None:
        return []
    found = []
    for line in _lines(folder / LOG_FILE):
        figures = {name[5:]: float(value) for name, value in line.items() if name.startswith("eval_")}
        if figures and line.get("step", 0) <= step_of(last):
            found.append(Evaluation(figures, figures.pop("score", float("nan")), int(line["step"])))
    return found


def _lines(file: Path) -> list[dict[str, Any]]:
    """Every whole line of a log."""
    try:
        rows = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for row in rows:
        try:
            found.append(json.loads(row))
        except ValueError:
            continue  # torn by a kill
    return [line for line in found if isinstance(line, dict)]


def _restart_log(trainer: GroundingTrainer, course: TrainingState, last: Path | None) -> None:
    """The log as it was at the checkpoint; what came behind it will come again."""
    if trainer.is_world_process_zero():
        kept = [line for line in _lines(course.log) if line.get("step", 0) <= course.begun] if last else []
        course.log.write_text("".join(json_text(line) + "\n" for line in kept), encoding="utf-8")


def _run(trainer: GroundingTrainer, last: Path | None) -> None:
    """The steps that are left; the Trainer itself would take one more where there is none."""
    from transformers import TrainerState

    if last is not None:
        state = TrainerState.load_from_json(str(last / "trainer_state.json"))
        if state.global_step >= state.max_steps:
            trainer.state = state
            trainer._load_from_checkpoint(str(last))
            return
    trainer.train(resume_from_checkpoint=None if last is None else str(last))


def _keep(trainer: GroundingTrainer, settings: TrainSettings) -> int:
    """Goes back to the best checkpoint where that is the result."""
    best = trainer.state.best_model_checkpoint
    if settings.keep == "best" and best is not None and is_whole(Path(best)):
        trainer._load_from_checkpoint(best)
        return step_of(Path(best))
    return int(trainer.state.global_step)


def _arguments(vlm: VLM, settings: TrainSettings, folder: Path) -> Any:
    """What `transformers.Trainer` is told."""
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
