"""The model class that lmms-eval runs; importing this module needs lmms-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from sightline.errors import InputError
from sightline.integrations.lmms.answers import AnswerRequest, answer_all, request_of
from sightline.methods.registry import find_method, find_sinks_file
from sightline.models.vlm import load


class SightlineModel(lmms):  # type: ignore[misc]  # of a library without types
    """A vision-language model with one of Sightline's methods on, for questions about images.

    Arguments, as `--model_args pretrained=NAME,method="var:rho=0.5,p=0.6"`:
        pretrained: a bundled name, a hub name, or a folder.
        method: a method spec as `sightline eval --method` takes it, in quotation marks where it has commas; none: the
            model as it is.
        sinks: a sinks file of `sightline sinks`, for a method that needs the model's sink dimensions.
        batch_size: questions a batch, 1 by default; halved where memory is short.
        dtype, device, revision, quantize: as `sightline.load` takes them.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "tiny-llava",
        method: str = "none",
        sinks: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        dtype: str = "auto",
        device: str | None = "auto",
        revision: str | None = None,
        quantize: str | None = None,
    ) -> None:
        super().__init__()
        from accelerate import Accelerator

        self.method = _method_of(str(method).strip("\"'"), sinks)
        self.batch_size = _batch_size(batch_size)
        accelerator = Accelerator()
        if accelerator.num_processes > 1:  # lmms-eval gives each process its share of the questions
            self.accelerator = accelerator
            self._rank = accelerator.process_index
            self._world_size = accelerator.num_processes
        where = str(accelerator.device) if device in (None, "auto", "cuda") else device
        self.vlm = load(str(pretrained), dtype=dtype, device=where, revision=revision, quantize=quantize)

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self.vlm.device

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The answers, in the order of the requests; "" for a question that cannot be put, which the log names."""
        ready = [self._question(request.args) for request in requests]
        with tqdm(total=len(ready), disable=self.rank != 0, desc="Answering") as bar:

            def answered(place: int, answer: str) -> None:
                words, settings = requests[place].args[:2]
                self.cache_hook.add_partial("generate_until", (words, settings), answer)
                bar.update()

            def failed(place: int, error: Exception) -> None:
                logger.error(f"Unanswered: {error}")

            return answer_all(self.vlm, self.method, ready, self.batch_size, answered, failed)

    def _question(self, arguments: tuple[Any, ...]) -> AnswerRequest | None:
        words, settings, doc_to_visual, doc_id, task, split = arguments
        try:
            visuals = doc_to_visual(self.task_dict[task][split][doc_id])
            return request_of(words, settings, visuals, f"{task}/{doc_id}")
        except InputError as error:
            logger.error(f"Unanswered: {error}")
            return None

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Refused: methods act while a model writes."""
        raise InputError(
            "The Sightline model of lmms-eval answers in words (generate_until), and this task asks for the likelihood "
            "of given answers (loglikelihood): choose a task that generates."
        )

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refused: one question, one answer."""
        raise InputError(
            "The Sightline model of lmms-eval answers one question at a time (generate_until), and this task has "
            "several rounds: choose a task of a single round."
        )


def _method_of(spec: str, sinks: str | None) -> Any:
    return find_method(spec or "none", find_sinks_file(None if sinks is None else Path(sinks)))


def _batch_size(given: int | str) -> int:
    text = str(given)
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"batch_size is {given!r}: give a whole number of questions a batch, 1 or more.")
    return int(text)
