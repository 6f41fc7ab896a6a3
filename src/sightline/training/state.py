"""What a training has gone through: its log, its evaluations, where it began."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from sightline.models.vlm import VLM


@dataclass(frozen=True)
class TrainingEvaluation:
    """What an evaluation found.

    figures: by name, for log and tables
    score: what `keep: best` goes by, larger is better
    step: after which it was made, 0 before the first
    """

    figures: Mapping[str, float]
    score: float
    step: int = 0


Evaluate = Callable[["VLM"], TrainingEvaluation]
OnLine = Callable[[Mapping[str, Any]], object]
"""Gets each line of the log as it is written."""


@dataclass
class TrainingState:
    """What a training has gone through, beside the Trainer's own state.

    log: the file of losses
    on_line: gets its lines
    evaluations: so far
    begun: the step that it goes on from
    """

    log: Path
    on_line: OnLine = lambda line: None
    evaluations: list[TrainingEvaluation] = field(default_factory=list)
    begun: int = 0


class EvaluatesEvery(TrainerCallback):  # type: ignore[misc]
    """Asks for an evaluation every so many steps, and for losses after the last."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> Any:
        """The last step is evaluated when the result is saved, and always has its line of losses."""
        control.should_log = control.should_log or state.global_step >= state.max_steps
        if self.every and state.global_step % self.every == 0 and state.global_step < state.max_steps:
            control.should_evaluate = True
        return control
