"""What verification needs: prompts of fresh scenes, answers in one forward pass, and intervals."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.zoo import questions as ask
from sightline.zoo.questions import Question
from sightline.zoo.render import render
from sightline.zoo.world import NEGATIVES, draw_scenes


@dataclass(frozen=True)
class Asked:
    """A question about a picture; scene: which items share a picture, so that intervals are over pictures."""

    picture: Image.Image
    question: Question
    scene: int


def pope_questions(count: int, seed: int) -> list[Asked]:
    """A present and an absent kind for each split of POPE, about `count` scenes: six questions a scene."""
    return [
        Asked(render(scene), question, index)
        for index, scene in enumerate(draw_scenes(count, seed))
        for how in NEGATIVES
        for question in ask.pope(scene, how, random.Random(f"verify/{seed}/{how}/{index}"))
    ]


class Answerer:
    """A model that answers in the first token of its answer, many questions at a time."""

    def __init__(self, model: Any, processor: Any, batch: int = 60) -> None:
        self.model, self.processor, self.batch = model.eval(), processor, batch

    def encode(self, asked: Sequence[Asked]) -> dict[str, Tensor]:
        """Forward inputs, through the chat template."""
        texts = [self.chat(item.question.prompt) for item in asked]
        pictures = [item.picture for item in asked]
        return dict(self.processor(images=pictures, text=texts, padding=True, return_tensors="pt"))

    def chat(self, prompt: str) -> str:
        """The prompt with its image, up to where the answer begins."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return text

    @torch.no_grad()
    def logits(self, asked: Sequence[Asked], method: Any = None) -> Tensor:
        """(questions, vocabulary): of the first token of the answer; `method` acts meanwhile."""
        parts = []
        for start in range(0, len(asked), self.batch):
            inputs = self.encode(asked[start : start + self.batch])
            with method.on(self.model) if method is not None else contextlib.nullcontext():
                parts.append(self.model(**inputs, logits_to_keep=1).logits[:, -1])
        return torch.cat(parts)

    def says_yes(self, asked: Sequence[Asked], method: Any = None) -> np.ndarray:
        """(questions,) bool, by POPE's official parsing: everything but "no" is a yes."""
        said = self.logits(asked, method).argmax(-1)
        return (said != self.processor.tokenizer.convert_tokens_to_ids("no")).numpy()

    def right(self, asked: Sequence[Asked], method: Any = None) -> np.ndarray:
        """(questions,) 1 where a yes/no question is answered as is true."""
        truth = np.array([item.question.answer == "yes" for item in asked])
        return (self.says_yes(asked, method) == truth).astype(float)

    def exact(self, asked: Sequence[Asked], method: Any = None) -> np.ndarray:
        """(questions,) 1 where an answer of one word is the true one."""
        truth = self.processor.tokenizer.convert_tokens_to_ids([item.question.answer for item in asked])
        return (self.logits(asked, method).argmax(-1).numpy() == np.array(truth)).astype(float)

    @torch.no_grad()
    def texts(self, asked: Sequence[Asked], tokens: int = 48) -> list[str]:
        """Answers generated greedily."""
        said: list[str] = []
        for start in range(0, len(asked), self.batch):
            inputs = self.encode(asked[start : start + self.batch])
            made = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
            new = made[:, inputs["input_ids"].shape[1] :]
            said += [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]
        return said


def interval(
    values: Iterable[float], scenes: Iterable[int] | None = None, draws: int = 2000, digits: int = 4
) -> dict[str, Any]:
    """The mean with its bootstrap 95% interval over scenes: {"value", "ci95", "n"}."""
    array = np.asarray(list(values), dtype=float)
    owners = np.arange(len(array)) if scenes is None else np.asarray(list(scenes))
    _, index = np.unique(owners, return_inverse=True)
    sums, counts = np.bincount(index, array), np.bincount(index)
    picked = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    means = sums[picked].sum(1) / counts[picked].sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {
        "value": round(float(array.mean()), digits),
        "ci95": [round(float(low), digits), round(float(high), digits)],
        "n": len(array),
    }


def points(values: Iterable[float], scenes: Iterable[int]) -> dict[str, Any]:
    """The same in points of 100."""
    return interval((100 * value for value in values), scenes, digits=2)
