"""The training loop of Transformers with the grounding terms, checkpoints that are whole, and a halt at NaN.

    L = L_LM + weight L_ground + contrast_weight L_contrast

Each term is a mean over the whole step, however it is cut: L_LM over the tokens to predict, L_ground over the labelled
words, L_contrast over the samples that have a negative caption, each against its own negative. A forward pass, of
several accumulated ones or of one process among several, counts for its share of these, so that the step is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer

from sightline.errors import SightlineError
from sightline.files.json import json_text
from sightline.probes.grounding.head import GroundingHead
from sightline.probes.grounding.values import Scores
from sightline.training.checkpoints import PREFIX, last_whole, seal
from sightline.training.collator import IGNORED_TOKEN, Collator, TrainingSet
from sightline.training.language import language_pass
from sightline.training.losses import sample_contrast
from sightline.training.state import Evaluate, EvaluatesEvery, TrainingState

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.probes.grounding.head import GroundingHead
    from sightline.training.settings import TrainSettings


COUNTS = ("language", "ground", "contrast", "grounded", "hallucinated")
"""What the terms are means over, counted in each batch."""


class GroundingTrainer(Trainer):  # type: ignore[misc]
    """`transformers.Trainer` whose loss has the grounding terms. Made by `sightline.training.trainer.train_model`.

    Args:
        vlm: what is trained; its model may be wrapped by PEFT in `model`.
        evaluate: called with the model every `eval_steps` steps, on the first process.
    """

    def __init__(
        self,
        vlm: VLM,
        model: Any,
        args: Any,
        samples: TrainingSet,
        settings: TrainSettings,
        course: TrainingState,
        head: GroundingHead | None = None,
        evaluate: Evaluate | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=samples,
            data_collator=Collator(vlm, settings.needs_negatives),
            callbacks=[EvaluatesEvery(settings.eval_steps if evaluate is not None else 0)],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = True  # the loss below is scaled to its share already
        self.vlm, self.settings, self.head, self.course = vlm, settings, head, course
        self.grounding, self.terms = settings.grounding(), settings.grounding_loss()
        self._evaluate_by = evaluate
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._names: list[str] = []
        self._summed_from = 0

    # The loss

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The batches of one step, and how much of each of COUNTS they hold, over all processes."""
        batches = list(islice(epoch_iterator, num_batches))
        self._names = [name for batch in batches for name in batch["ids"]]
        whole = torch.stack([self._counted(batch) for batch in batches]).sum(0) if batches else torch.zeros(len(COUNTS))
        whole = whole.to(device)
        return batches, self.accelerator.reduce(whole, "sum") if self.args.world_size > 1 else whole

    def _counted(self, batch: Mapping[str, Any]) -> Tensor:
        """[COUNTS] of one batch. The first position is never predicted, since nothing stands before it."""
        labels, negative = batch["grounding"], batch.get("negative")
        wrong = labels if negative is None else negative["grounding"]
        ground = (labels >= 0).sum()
        if negative is not None and self.terms.has_negatives:
            ground = ground + (wrong >= 0).sum()
        owners = 0 if negative is None else len(negative["owners"])
        tokens = (batch["labels"][:, 1:] != IGNORED_TOKEN).sum()
        return torch.stack([tokens, ground, labels.new_tensor(owners), (labels == 1).sum(), (wrong == 0).sum()]).float()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This batch's share of the step's loss.

        Raises:
            SightlineError: when it is not finite.
        """
        batch = dict(inputs)
        shares = self._counted(batch)
        if num_items_in_batch is not None:
            shares = shares / num_items_in_batch.clamp(min=1)
        else:
            shares = shares / shares.clamp(min=1)
        share = dict(zip(COUNTS, shares, strict=True))
        names, labels, negative = batch.pop("ids"), batch.pop("grounding"), batch.pop("negative", None)
        if negative is None and self.is_fsdp_enabled and self.settings.needs_negatives:
            negative = _nothing_like(
                batch, labels
            )  # all processes gather the weights together, as often as any of them
        outputs, scores = self._forward(model, batch)
        found = {"language": outputs.loss}
        if scores is not None:
            found |= self._terms_of(model, scores, labels, negative)
        loss = found["language"] * share["language"]
        for name, weight in (("ground", self.terms.weight), ("contrast", self.terms.contrast_weight)):
            if name in found:
                loss = loss + weight * found[name] * share[name]
        if not torch.isfinite(loss):
            raise self._not_finite(f"The loss is not a number at step {self.state.global_step + 1}", names)
        for name, value in found.items():
            self._sums[name] += float(value.detach()) * float(share[name])
        loss = loss * self.args.world_size  # gradients are averaged over processes
        return (loss, outputs) if return_outputs else loss

    def _forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, Scores | None]:
        """A forward pass, and the scores of its words where they are wanted."""
        if not self.settings.has_grounding:
            return language_pass(model, self.vlm.model, batch), None
        with self.grounding.on(self.vlm, head=self.head) as probe:
            outputs = language_pass(model, self.vlm.model, batch)
            return outputs, probe.scores()

    def _terms_of(
        self, model: Any, scores: Scores, labels: Tensor, negative: Mapping[str, Any] | None
    ) -> dict[str, Tensor]:
        if negative is None:
            return self.terms(scores, labels).terms
        batch = dict(negative)
        wrong, owners = batch.pop("grounding"), batch.pop("owners")
        _, false = self._forward(model, batch)
        if false is None:
            return self.terms(scores, labels).terms
        found = dict(replace(self.terms, contrast_weight=0.0)(scores, labels, false, wrong).terms)
        if "ground" in found:
            found["ground"] = found["ground"] + false.values.sum() * 0  # every forward pass has its backward one
        if self.settings.needs_contrast:
            each = [
                sample_contrast(self.terms, scores, labels, false, wrong, owner, row)
                for row, owner in enumerate(owners.tolist())
            ]
            found["contrast"] = torch.stack(each).mean() if each else false.values.sum() * 0
        return found

    def _not_finite(self, what: str, names: list[str]) -> SightlineError:
        kept = last_whole(Path(self.args.output_dir))
        where = f"the last good checkpoint, {kept}, is kept" if kept else "no checkpoint was saved before"
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return SightlineError(
            f"{what}, on the samples {shown}; {where}: lower learning_rate, or leave these samples out."
        )

    # The log

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean of each term over the steps since the last line, and writes it to the log."""
        if "loss" in logs:
            steps = max(1, self.state.global_step - max(self._summed_from, self.course.begun))
            sums = torch.tensor([[self._sums.get(name, 0.0) / steps, float(name in self._sums)] for name in COUNTS])
            if self.args.world_size > 1:
                sums = self.accelerator.reduce(sums.to(self.args.device), "sum")
            logs |= {name: value for name, (value, times) in zip(COUNTS, sums.tolist(), strict=True) if times}
            self._sums.clear()
            self._summed_from = self.state.global_step
        super().log(logs, start_time)
        if self.is_world_process_zero():
            line = self.state.log_history[-1]
            with self.course.log.open("a", encoding="utf-8") as file:
                file.write(json_text(line) + "\n")
            self.course.on_line(line)

    # TrainingEvaluation

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        """The figures of the evaluation that was given; nothing of the training changes by it."""
        figures: dict[str, float] = {}
        self.control.should_evaluate = False
        if self._evaluate_by is not None and self.is_world_process_zero():
            with self._resting():
                found = replace(self._evaluate_by(self.vlm), step=self.state.global_step)
            self.course.evaluations.append(found)
            figures = {f"eval_{name}": value for name, value in found.figures.items()}
            self.log({**figures, "eval_score": found.score})
            best = self.state.best_metric
            if self.settings.keep == "best" and self.state.global_step and (best is None or found.score > best):
                self.state.best_metric, self.state.best_global_step = found.score, self.state.global_step
                self.state.best_model_checkpoint = self._folder()
        if self.settings.keep == "best" and self.state.global_step:
            self.control.should_save = True  # on every process, since all of them write a checkpoint
        self.accelerator.wait_for_everyone()
        return figures

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """In evaluation mode, with the random state as it was afterwards."""
        was_training = self.model.training
        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            self.model.eval()
            try:
                yield
            finally:
                self.model.train(was_training)

    # Checkpoints

    def _folder(self) -> str:
        return str(Path(self.args.output_dir) / f"{PREFIX}{self.state.global_step}")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint that counts once it is whole; weights that are not finite make none."""
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        if not all(bool(torch.isfinite(parameter).all()) for parameter in trained):
            step = self.state.global_step
            raise self._not_finite(f"The weights are not numbers any more after step {step}", self._names)
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            seal(Path(self._folder()))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        with self._headless():
            super()._save(output_dir, state_dict)
        if self.head is not None and self.args.should_save:
            self.head.save(output_dir or self.args.output_dir)

    @contextmanager
    def _headless(self) -> Iterator[None]:
        """The head is a part of the trained module, for the optimiser and other processes, and not of a saved model."""
        module = self.model if self.head is not None else None
        if module is not None:
            delattr(module, HEAD)
        try:
            yield
        finally:
            if module is not None:
                module.add_module(HEAD, self.head)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Reads the weights by the model's own class, which knows how they were named on disk."""
        if self.head is not None:
            self.head.load_state_dict(GroundingHead.load(resume_from_checkpoint).state_dict())
        if hasattr(self.model, "peft_config") or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            with self._headless() if model is None else nullcontext():
                super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = type(self.model).from_pretrained(resume_from_checkpoint, dtype=self.model.dtype)
        with self._headless():
            self.model.load_state_dict(saved.state_dict())


HEAD = "grounding_head"


def _nothing_like(batch: Mapping[str, Any], labels: Tensor) -> dict[str, Any]:
    """A negative without a labelled word, for a batch that has none."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return inputs | {"grounding": torch.full_like(labels, -1.0), "owners": labels.new_zeros(0, dtype=torch.long)}
