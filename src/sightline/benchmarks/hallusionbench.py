"""HallusionBench: the same questions with an image, with an edited one, and without (arXiv 2310.14566).

Files and script: github.com/tianyi-lab/HallusionBench.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks import source
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import all_right, judged_groups, share, text, unread
from sightline.benchmarks.yes_no import strict, worded
from sightline.errors import InputError
from sightline.files.jsonl import json_objects

HUB = "lmms-lab-encoder/HallusionBench"
"""As lmms-eval takes it: questions with images in one split, those without in another."""

HUB_SPLITS = {"image": ("image",), "text": ("non_image",), None: ("image", "non_image")}

FILE = "HallusionBench.json"

ROOTS = ("", "hallusion_bench", "images", "HallusionBench")
"""Where the folders VD and VS are looked for, beside the file."""

SPLITS = ("image", "text")

NAMED_BY = ("category", "subcategory", "set_id", "figure_id", "question_id")


@register
@dataclass(frozen=True)
class HallusionBench(Benchmark):
    """HallusionBench: 1,129 yes-no questions, 951 with an image and 178 without.

    Files: HallusionBench.json, and the images' folders VD and VS beside it; or the hub's tables.
    The official prompt is the question alone.
    template: `{question}` is its place. The official judge is GPT-4; `official` here is the rule of VLMEvalKit.

    Fields:
        split: image, the questions that the harnesses in use ask; or text, those without an image. None: both.
    """

    name: ClassVar[str] = "hallusionbench"
    title: ClassVar[str] = "HallusionBench"
    headline: ClassVar[str] = "a_acc"
    new_tokens: ClassVar[int] = 64
    asks_without_image: ClassVar[bool] = True
    response_fields: ClassVar[tuple[str, ...]] = (
        "model_prediction",
        *(name for name in Benchmark.response_fields if name != "model_prediction"),
    )

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions in the order of the file; a missing image fails its questions alone."""
        if self.split is not None and self.split not in SPLITS:
            raise InputError(f"HallusionBench has no split {self.split!r}; it has {', '.join(SPLITS)}.")
        if path is None:
            items = self._of_hub()
        else:
            file = path / FILE if path.is_dir() else path
            items = [self._item(line.number, line.value or {}, file) for line in json_objects(file)]
        if not any(isinstance(item, Item) for item in items):
            first = next(item.error for item in items if isinstance(item, InvalidItem))
            raise InputError(f"There is no question of HallusionBench to ask: {first}")
        wanted = {"image": True, "text": False}.get(self.split or "")
        return [
            item
            for item in items
            if wanted is None or isinstance(item, InvalidItem) or (item.about["visual_input"] != "0") == wanted
        ]

    def _of_hub(self) -> list[Item | InvalidItem]:
        """The hub's two tables, with and without images."""
        items: list[Item | InvalidItem] = []
        for row in (
            row for split in HUB_SPLITS[self.split] for row in source.hub_table(HUB, None, split, self.name).rows
        ):
            if isinstance(row, source.BadRow):
                items.append(InvalidItem(row.where, f"{row.where}: {row.error}."))
                continue
            made = self._item(len(items) + 1, row.values, Path(row.where))
            is_shown = isinstance(made, Item) and bool(made.images)
            if is_shown and not row.images:
                made = InvalidItem(made.id, f"{row.where}: there is no image.")
            elif isinstance(made, Item) and is_shown:
                made = replace(made, images=tuple(row.images.values())[:1])
            items.append(made)
        return items

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Item | InvalidItem] | None:
        """The official result file: the questions with "gt_answer", and the words under "model_prediction"."""
        if not records or not all("gt_answer" in record and "set_id" in record for record in records):
            return None
        return [self._item(number, record, Path()) for number, record in enumerate(records, start=1)]

    def names_in(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """By the five fields of the official file, or the index of VLMEvalKit's table.

        The index has category and subcategory first, set, figure and question last, and may have a part between.
        """
        own = tuple(text(record.get(name)) for name in NAMED_BY)
        if all(own):
            return ("/".join(own),)
        parts = text(record.get("index")).split("_")
        return ("/".join((*parts[:2], *parts[-3:])),) if len(parts) in (5, 6) else ()

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """An answer that is neither yes nor no is unclear; of a VS question without a figure that is right."""
        label = strict(response) if parser == "strict" else official_word(response)
        is_unclear = label is None and _is_without_figure(item) and parser == "official"
        return Verdict(item.id, label, label == item.truth or is_unclear)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """a_acc by question; q_acc: questions right about every figure; f_acc: figures right in every question.

        VS questions without a figure count in a_acc and q_acc, and are no figure. easy: questions about images as they
        are or about none, hard: about edited ones. with_image and without_image: a_acc of the questions of VS, which
        are there with and without; looks: of those wrong without an image, the share that is right with one.
        """
        judged = [item for item in items if item.id in judgements]
        right = {item.id: judgements[item.id].right for item in judged}

        def accuracy(of: Iterable[Item]) -> float | None:
            listed = list(of)
            return share(sum(right[item.id] for item in listed), len(listed))

        questions = judged_groups(items, judgements, _question)
        figures = judged_groups(items, judgements, _figure)
        visual = [item for item in judged if item.about["category"] == "VS"]
        return {
            "n": len(judged),
            "unparsed": unread(judgements[item.id] for item in judged),
            "a_acc": accuracy(judged),
            "q_acc": share(sum(map(all_right, questions.values())), len(questions)),
            "f_acc": share(sum(map(all_right, figures.values())), len(figures)),
            "easy": accuracy(item for item in judged if item.about["visual_input"] != "2"),
            "hard": accuracy(item for item in judged if item.about["visual_input"] == "2"),
            "with_image": accuracy(item for item in visual if not _is_without_figure(item)),
            "without_image": accuracy(item for item in visual if _is_without_figure(item)),
            "looks": _looks(questions.values()),
            "yes_ratio": share(sum(judgements[item.id].parsed == "yes" for item in judged), len(judged)),
            "missing": len(items) - len(judged),
            "subtasks": {
                name: {"n": len(of), "a_acc": share(sum(verdict.right for _, verdict in of), len(of))}
                for name, of in judged_groups(items, judgements, lambda item: item.group).items()
            },
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """One a set of figures; sums: right, answered, questions right, questions, figures right, figures."""
        units = []
        for of in judged_groups(items, judgements, _set).values():
            members = [item for item, _ in of]
            questions = judged_groups(members, judgements, _question).values()
            figures = judged_groups(members, judgements, _figure).values()
            sums = (
                sum(verdict.right for _, verdict in of), len(of), sum(map(all_right, questions)), len(questions),
                sum(map(all_right, figures)), len(figures),
            )  # fmt: skip
            units.append(Unit(tuple(item.id for item in members), members[0].group, tuple(map(float, sums))))
        return units

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """a_acc, q_acc, f_acc."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        return {
            "a_acc": self.headline_value(totals),
            "q_acc": np.asarray(whole[..., 2] / whole[..., 3]),
            "f_acc": np.asarray(whole[..., 4] / whole[..., 5]),
        }

    def _item(self, number: int, record: Mapping[str, Any], file: Path) -> Item | InvalidItem:
        names = (*NAMED_BY, "visual_input")
        about = {name: text(record.get(name)) for name in names}
        question, truth = text(record.get("question")), {"0": "no", "1": "yes"}.get(text(record.get("gt_answer")))
        if truth is None or not question or not all(about.values()):
            wrong = "a question with gt_answer 0 or 1 and " + ", ".join(names) + " is expected"
            return InvalidItem(f"line {number}", f"{file}, line {number}: {wrong}.")
        name = "/".join(about[part] for part in NAMED_BY)
        images = () if about["visual_input"] == "0" else (_image(record, about, file),)
        about["question"] = question
        group = f"{about['category']}/{about['subcategory']}"
        return Item(name, worded(self.template, question), images, truth, group, about)


def official_word(response: str) -> str | None:
    """As VLMEvalKit: yes or no where one of them and not the other is a word of the text, in any case.

    Of the signs ; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? ! each becomes nothing where it stands beside a blank anywhere
    in the text, or where the text has a number such as 1,000; else a blank. Full stops, the first 32 that touch no
    digit, become nothing. So "**Yes**", "Yes:" and "yes.no" say neither.
    """
    before = response.lower()
    text, has_thousands = before, _THOUSANDS.search(before) is not None
    for sign in _SIGNS:
        is_beside_blank = f"{sign} " in before or f" {sign}" in before
        text = text.replace(sign, "" if is_beside_blank or has_thousands else " ")
    words = set(_LONE_STOP.sub("", text, count=32).split())
    found = words & {"yes", "no"}
    return found.pop() if len(found) == 1 else None


_SIGNS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_LONE_STOP = re.compile(r"(?<!\d)\.(?!\d)")


def _is_without_figure(item: Item) -> bool:
    return bool(item.about["category"] == "VS" and item.about["figure_id"] == "0")


def _set(item: Item) -> str:
    return "/".join(item.about[part] for part in ("category", "subcategory", "set_id"))


def _question(item: Item) -> str:
    return f"{_set(item)}/{item.about['question_id']}"


def _figure(item: Item) -> str | None:
    return None if _is_without_figure(item) else f"{_set(item)}/{item.about['figure_id']}"


def _looks(questions: Iterable[Sequence[tuple[Item, Verdict]]]) -> float | None:
    """Of the answers about a figure to questions that are wrong without one, the share that is right."""
    seen = []
    for of in questions:
        blind = [verdict.right for item, verdict in of if _is_without_figure(item)]
        if blind and not blind[0]:
            seen += [verdict.right for item, verdict in of if not _is_without_figure(item)]
    return share(sum(seen), len(seen))


def _image(record: Mapping[str, Any], about: Mapping[str, str], file: Path) -> Path:
    named = text(record.get("filename")).removeprefix("./")
    named = named or f"{about['category']}/{about['subcategory']}/{about['set_id']}_{about['figure_id']}.png"
    places = [file.parent / root / named for root in ROOTS]
    return next((place for place in places if place.is_file()), places[0])
