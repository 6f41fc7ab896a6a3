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

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.training_sample import BadLine, TrainingData, TrainingSample
from sightline.errors import InputError, SightlineError
from sightline.files.json import json_text, write_atomically
from sightline.models.vlm import load
from sightline.training import adapters
from sightline.training.arguments import require_reporter, training_arguments
from sightline.training.checkpoints import is_whole, step_of
from sightline.training.collator import Collator, TrainingSet, in_passes
from sightline.training.folder import (
    EVALUATIONS_FILE,
    LOG_FILE,
    claim,
    log_lines,
    logged,
    owned,
    past_evaluations,
    release,
    require_folder,
    training_document,
)
from sightline.training.state import Evaluate, OnLine, TrainingEvaluation, TrainingState
from sightline.training.steps import HEAD, GroundingTrainer

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.probes.grounding.head import GroundingHead
    from sightline.training.settings import TrainSettings


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
    evaluations: tuple[TrainingEvaluation, ...] = ()
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


def train_model(
    model: str | VLM,
    samples: TrainingData | Sequence[TrainingSample],
    settings: TrainSettings,
    out: str | Path,
    *,
    evaluate: Evaluate | None = None,
    resume: bool = False,
    on_line: OnLine = lambda line: None,
    about: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train a model, in place where a `VLM` is given, and save the result.

    Args:
        evaluate: what to find out about the model before, every `eval_steps` steps, and after.
        resume: go on from the last whole checkpoint in `out`; without one, from the start.
        on_line: gets each line of the log.
        about: what else `resume` should hold the folder to, as a digest of the data.

    Under `accelerate launch` or torchrun every process calls this; the first writes.

    Raises:
        InputError: for data without a usable sample, a folder that holds another training or was not meant to be
            resumed, and settings that do not fit the model or the machine.
        SightlineError: when the loss is not a number any more.
    """
    folder = Path(out)
    data = samples if isinstance(samples, TrainingData) else TrainingData("samples", tuple(samples))
    require_reporter(settings.report_to)
    name = model if isinstance(model, str) else model.name
    if settings.keep == "best" and evaluate is None:
        raise InputError("keep is best, and nothing is evaluated: give an evaluation (eval_limit), or keep the last.")
    document = training_document(settings, name, data, about or {})
    require_folder(folder, document, resume)
    with owned(folder):
        last = claim(folder, document, resume)
        try:
            with logged(folder, document, last):
                return _trained(_loaded(model, settings), data, settings, folder, last, evaluate, on_line)
        except SightlineError:
            release(folder)
            raise


def _trained(
    vlm: VLM,
    data: TrainingData,
    settings: TrainSettings,
    folder: Path,
    last: Path | None,
    evaluate: Evaluate | None,
    on_line: OnLine,
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
    course = TrainingState(folder / LOG_FILE, on_line, past_evaluations(folder, last), step_of(last) if last else 0)
    chosen = TrainingSet(usable)
    arguments = training_arguments(vlm, in_passes(collator, chosen, settings), folder)
    trainer = GroundingTrainer(vlm, trained, arguments, chosen, settings, course, head, evaluate)
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
        rows = [{"step": found.step, "score": found.score, "figures": found.figures} for found in course.evaluations]
        write_atomically(folder / EVALUATIONS_FILE, json_text(rows, indent=1))
    trainer.accelerator.wait_for_everyone()
    if hasattr(trained, HEAD):
        delattr(trained, HEAD)
    passed = [BadLine(key, fault) for key, fault in {**faults, **chosen.bad}.items()]
    return TrainResult(
        folder=folder,
        steps=trainer.state.global_step,
        log=tuple(log_lines(course.log)),
        evaluations=tuple(course.evaluations),
        kept_step=kept,
        resumed_from=course.begun,
        passed_over=(*data.bad, *passed),
        seconds=time.monotonic() - begun,
    )


def _loaded(model: str | VLM, settings: TrainSettings) -> VLM:
    if not isinstance(model, str):
        return model
    return adapters.out_of_float16(load(model, quantize="4bit" if settings.method == "qlora" else None))


def _head(vlm: VLM, trained: Any, settings: TrainSettings) -> GroundingHead | None:
    grounding = settings.grounding()
    grounding.chosen_layers(vlm.anatomy)  # a layer that there is not is refused before anything is done
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
    require_folder(folder, training_document(settings, model, data, about), resume)
    require_reporter(settings.report_to)


def _restart_log(trainer: GroundingTrainer, course: TrainingState, last: Path | None) -> None:
    """The log as it was at the checkpoint; what came behind it will come again."""
    if trainer.is_world_process_zero():
        kept = [line for line in log_lines(course.log) if line.get("step", 0) <= course.begun] if last else []
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
