"""Samples into what a training step takes: the model's inputs, language labels, and a grounding label a position."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from sightline.data.answer_words import Word
from sightline.data.training_sample import TrainingSample
from sightline.errors import InputError
from sightline.models.answer_tokens import IGNORED, AnswerTurn, TailTokens, tail_tokens, turn_of
from sightline.models.vlm.encoding import prompt_texts

if TYPE_CHECKING:
    from sightline.models.vlm import VLM
    from sightline.training.settings import TrainSettings

IGNORED_TOKEN = -100
"""The language label of a token that is not to be predicted."""


MOST_POSITIONS = 16_384
"""Of one forward pass, unless a single sample has more: a photo of 12 megapixels is 15,301 in Qwen2.5-VL."""

LOOKED_AT = 4
"""Samples by which the length of all is judged."""


class TrainingSet(torch.utils.data.Dataset[TrainingSample]):
    """Samples with their images opened; one whose image cannot be read gives way to the next, and is noted in `bad`."""

    def __init__(self, samples: Sequence[TrainingSample]) -> None:
        self.samples = tuple(samples)
        self.bad: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> TrainingSample:
        for step in range(len(self.samples)):
            sample = self.samples[(index + step) % len(self.samples)]
            try:
                return replace(sample, images=tuple(sample.question().load_images()))
            except InputError as error:
                self.bad[sample.id] = str(error)
        raise InputError(f"Not one image of the training data can be read; the last, {list(self.bad.values())[-1]}")


@dataclass(frozen=True)
class Collator:
    """Makes batches, on the CPU and padded on the right, where a causal model does not see the padding.

    The batch holds the model's inputs; `labels` [batch, positions], the tokens to predict: the answer and the end
    token; `grounding` [batch, positions], as the losses take it; `ids`; and `negative`, alike, without `labels`, for
    those of the samples that have one, with `owners`, their rows.
    """

    vlm: VLM
    has_negatives: bool = True
    turn: AnswerTurn = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "turn", turn_of(self.vlm.processor, self.vlm.anatomy.is_multimodal))

    def fault(self, sample: TrainingSample) -> str | None:
        """Why a sample cannot be put into this model's words, as a sentence; None where it can."""
        special = [str(token) for token in getattr(self.vlm.tokenizer, "all_special_tokens", [])]
        for name, text in (("answer", sample.answer), ("negative", sample.negative or "")):
            found = next((token for token in special if token and token in text), None)
            if found is not None:
                return f"the {name} holds {found}, a token by which the model is steered."
        return None

    def __call__(self, samples: Sequence[TrainingSample]) -> dict[str, Any]:
        """The batch of these samples, whose images are open."""
        batch, tails = self._encoded(samples, [sample.answer for sample in samples])
        batch["labels"] = self._language(batch, tails)
        batch["grounding"] = self._grounding(batch, tails, [sample.labelled for sample in samples])
        batch["ids"] = [sample.id for sample in samples]
        owners = [row for row, sample in enumerate(samples) if self.has_negatives and sample.negative is not None]
        if owners:
            false = [samples[row] for row in owners]
            negative, tails = self._encoded(false, [sample.negative or "" for sample in false])
            words = [sample.negative_words or () for sample in false]
            batch["negative"] = negative | {
                "grounding": self._grounding(negative, tails, words),
                "owners": torch.tensor(owners),
            }
        return batch

    def _encoded(
        self, samples: Sequence[TrainingSample], answers: Sequence[str]
    ) -> tuple[dict[str, Any], list[tuple[int, TailTokens]]]:
        """The inputs, and for each row the place and tokens of what follows the prompt."""
        questions = [sample.question() for sample in samples]
        endings = [self.turn.ending(answer) for answer in answers]
        inputs = dict(self.vlm.encode(questions, endings=endings, device="cpu", padding_side="right"))
        if "attention_mask" not in inputs:
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        prompts = prompt_texts(self.vlm.processor, self.vlm.anatomy, questions, self.vlm.chat)
        tails = []
        for row, (sample, prompt, ending) in enumerate(zip(samples, prompts, endings, strict=True)):
            tail = tail_tokens(self.vlm.tokenizer, prompt, ending)
            kept = inputs["attention_mask"][row].nonzero().flatten().tolist()
            place = tail.place_in([inputs["input_ids"][row, position].item() for position in kept])
            if place is None or not tail.ids:
                raise InputError(
                    f"The words of sample {sample.id!r} are not found among the tokens that the processor "
                    f"({type(self.vlm.processor).__name__}) makes of them: it changes the text behind the prompt."
                )
            tails.append((kept[place], tail))
        return inputs, tails

    def _language(self, batch: dict[str, Any], tails: Sequence[tuple[int, TailTokens]]) -> torch.Tensor:
        labels = torch.full_like(batch["input_ids"], IGNORED_TOKEN)
        ends = self.vlm.anatomy.eos_token_ids | {self.vlm.tokenizer.eos_token_id}
        for row, (place, tail) in enumerate(tails):
            for number, (token, (start, _)) in enumerate(zip(tail.ids, tail.spans, strict=True)):
                if start >= 0:
                    labels[row, place + number] = token
                    if token in ends:  # what a template writes behind the end is never generated
                        break
        return labels

    def _grounding(
        self, batch: dict[str, Any], tails: Sequence[tuple[int, TailTokens]], words: Sequence[Sequence[Word]]
    ) -> torch.Tensor:
        labels = torch.full(batch["input_ids"].shape, IGNORED)
        for row, ((place, tail), labelled) in enumerate(zip(tails, words, strict=True)):
            values = tail.labels(labelled, len(self.turn.glue))
            labels[row, place : place + len(values)] = torch.tensor(values)
        return labels


def in_passes(collator: Collator, samples: TrainingSet, settings: TrainSettings) -> TrainSettings:
    """The same steps in forward passes of at most MOST_POSITIONS: a step's loss is the same however it is cut."""
    longest = 1
    for index in range(0, len(samples), max(1, len(samples) // LOOKED_AT)) if settings.batch_size > 1 else ():
        with suppress(InputError):  # the training itself says what is wrong with it
            longest = max(longest, collator([samples[index]])["input_ids"].shape[1])
    sizes = [size for size in range(1, settings.batch_size + 1) if settings.batch_size % size == 0]
    size = max((size for size in sizes if size * longest <= MOST_POSITIONS), default=1)
    return replace(settings, batch_size=size, accumulation=settings.accumulation * settings.batch_size // size)
