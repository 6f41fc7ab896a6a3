"""MMHal-Bench: 96 open questions, each answer rated 0 to 6 by a language model (LLaVA-RLHF, arXiv 2309.14525).

There is no rule without that judge: `sightline eval` writes the model's answers, the official script has them rated
elsewhere, and its file of reviews is scored here, alone or in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import share, text
from sightline.benchmarks.yes_no import worded
from sightline.errors import InputError
from sightline.files.jsonl import json_objects

FILES = ("response_template.json", "mmhal-bench_answer_template.json")

TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
"""Of the questions in turn, as the script takes them."""

QUESTIONS = 96

BEST = 6


@register
@dataclass(frozen=True)
class MmHal(Benchmark):
    """MMHal-Bench: answers that a language model has rated.

    Files: response_template.json of the release, and its images (by the names in `image_src`) beside it or in `images`.
    The official prompt is the question alone. template: `{question}` is its place. An answers file is the script's file
    of reviews: one a question, in their order, each with "Rating: k".
    """

    name: ClassVar[str] = "mmhal"
    title: ClassVar[str] = "MMHal-Bench"
    headline: ClassVar[str] = "score"
    new_tokens: ClassVar[int] = 256

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions in the order of the file, named 1 to 96."""
        if path is None:
            raise InputError("MMHal-Bench needs its files: give the folder of response_template.json, as mmhal:FOLDER.")
        file = next((path / name for name in FILES if (path / name).is_file()), path) if path.is_dir() else path
        lines = json_objects(file)
        items = [self._item(line.number, line.value or {}, file) for line in lines]
        if not any(isinstance(item, Item) for item in items):
            raise InputError(
                f"{file} holds no question of MMHal-Bench: question_type, image_src, question are expected."
            )
        return items

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """The script's file of reviews, as the server gave them; None for other files."""
        if not path.is_file() or path.suffix != ".json":
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            reviews = [text(each["choices"][0]["message"]["content"]) for each in found]
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return None
        return [{"id": str(number), "response": review} for number, review in enumerate(reviews, start=1)] or None

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item] | None:
        """The 96 questions by their place, where the answers are reviews."""
        if len(records) != QUESTIONS or not any(rating_of(text(record.get("response"))) for record in records):
            return None
        return [
            Item(str(number), "", group=TYPES[(number - 1) % len(TYPES)], about={})
            for number in range(1, QUESTIONS + 1)
        ]

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """response: the review. Its label is the rating; right from 3 on, where nothing is invented.

        official: a review without a rating, or with several, counts 0 where others have one; strict: it counts nothing.
        """
        rating = rating_of(response)
        is_counted = rating is not None or parser == "official"
        detail = {"rating": rating or 0, "counts": is_counted, "is_review": "rating" in response.lower()}
        return Verdict(item.id, None if rating is None else str(rating), (rating or 0) >= 3, detail)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """score: mean rating, 0 to 6. hallucination_rate: share rated below 3. informativeness: the rating without the
        half that says whether something is invented, 0 to 1. None where nothing is a review.
        """
        judged = [item for item in items if item.id in judgements]
        verdicts = [judgements[item.id] for item in judged]
        rated = [verdict for verdict in verdicts if verdict.detail["counts"]]
        if not any(verdict.parsed for verdict in rated):
            rated = []
        ratings = [verdict.detail["rating"] for verdict in rated]
        parts: dict[str, list[int]] = {}
        for item in judged if rated else ():
            if judgements[item.id].detail["counts"]:
                parts.setdefault(item.group, []).append(judgements[item.id].detail["rating"])
        return {
            "n": len(judged),
            "unparsed": sum(verdict.parsed is None for verdict in verdicts),
            "score": share(sum(ratings), len(ratings)),
            "hallucination_rate": share(sum(rating < 3 for rating in ratings), len(ratings)),
            "informativeness": share(sum(rating % 3 if rating < BEST else 3 for rating in ratings), 3 * len(ratings)),
            "missing": len(items) - len(judged),
            "subtasks": {name: {"n": len(of), "score": share(sum(of), len(of))} for name, of in parts.items()},
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """Sums: rating, rated below 3, rated."""
        units = []
        is_rated = any(verdict.parsed for verdict in judgements.values())
        for item in items:
            if item.id in judgements and is_rated:
                detail = judgements[item.id].detail
                sums = (detail["rating"], detail["counts"] and detail["rating"] < 3, detail["counts"])
                units.append(Unit((item.id,), item.group, tuple(map(float, sums))))
        return units

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean rating."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        return np.asarray(whole[..., 0] / whole[..., 2])

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Score and hallucination rate."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        return {"score": self.headline_value(totals), "hallucination_rate": np.asarray(whole[..., 1] / whole[..., 2])}

    def _item(self, number: int, record: Mapping[str, Any], file: Path) -> Item | InvalidItem:
        question, source = text(record.get("question")), text(record.get("image_src"))
        if not question or not source:
            return InvalidItem(str(number), f"{file}, question {number}: there is no question or no image_src.")
        name = source.rpartition("/")[2]
        places = [file.parent / below / name for below in ("", "images")]
        image = next((place for place in places if place.is_file()), places[-1])
        group = text(record.get("question_type")) or TYPES[(number - 1) % len(TYPES)]
        about = {"question": question, "gt_answer": text(record.get("gt_answer")), "image": name}
        return Item(str(number), worded(self.template, question), (image,), about["gt_answer"], group, about)


def rating_of(review: str) -> int | None:
    """The only one of "rating: 0" to "rating: 6" in a review, in any case; None without one, or with several."""
    found = [rating for rating in range(BEST + 1) if f"rating: {rating}" in review.lower()]
    return found[0] if len(found) == 1 else None
