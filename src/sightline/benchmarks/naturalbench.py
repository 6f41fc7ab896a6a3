"""NaturalBench: two questions about two images, with opposite answers (arXiv 2410.14669; BaiqiL/NaturalBench)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks import choices, source
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import judged_groups, share, text, unread
from sightline.benchmarks.yes_no import strict, worded
from sightline.errors import InputError

HUB = "BaiqiL/NaturalBench"

SUFFIX = {
    "yes_no": "Please answer Yes or No.",
    "multiple_choice": "Please output the letter corresponding to the correct option.",
}

PLACES = ("q0_i0", "q0_i1", "q1_i0", "q1_i1")
"""A group's items: one question of the two on one image of the two; due are yes, no, no, yes, or A, B, B, A."""

LABELS = {"yes_no": ("yes", "no"), "multiple_choice": ("A", "B")}


@register
@dataclass(frozen=True)
class NaturalBench(Benchmark):
    """NaturalBench: 1,900 groups of two questions and two images; who does not look has at most half of each.

    Files: the hub's table, a row a group (Question_0, Question_1, Image_0, Image_1), or four rows a group in the order
    of `Index`. The official prompt is the question and the suffix of its type. template: `{question}` is the place of
    both.
    """

    name: ClassVar[str] = "naturalbench"
    title: ClassVar[str] = "NaturalBench"
    headline: ClassVar[str] = "g_acc"
    suffixes: ClassVar[Mapping[str, str]] = SUFFIX

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions, four a group."""
        return self._items(path, needs_images=True)

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        return self._items(path, needs_images=False)

    def aliases(self, item: Item) -> tuple[str, ...]:
        """The row number of the official order, four rows a group."""
        return (str(item.about["row"]),)

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """official: whichever word of the two comes first, in any case; so the article "a" is the letter A."""
        first, second = LABELS[item.group]
        if parser == "official":
            label = official_word(response, first, second)
        elif item.group == "yes_no":
            label = strict(response)
        else:
            label = choices.strict_letter(response, "AB")
        return Verdict(item.id, label, label == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """acc by answer; over groups with all four answered q_acc by question, i_acc by image, g_acc all four right."""
        judged = [item for item in items if item.id in judgements]
        sums = [unit.sums for unit in self.units(items, judgements)] or [(0.0,) * 6]
        right, answered, questions, images, groups, whole = (float(total) for total in np.sum(sums, axis=0))
        return {
            "n": len(judged),
            "unparsed": unread(judgements[item.id] for item in judged),
            "g_acc": share(groups, whole),
            "q_acc": share(questions, 2 * whole),
            "i_acc": share(images, 2 * whole),
            "acc": share(right, answered),
            "groups": int(whole),
            "missing": len(items) - len(judged),
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """One a group; sums: right, answered, questions right on both images, images with both right, 1 where all four
        are right, 1 where all four are answered.
        """
        units = []
        for of in self._groups(items, judgements):
            rights = {item.about["place"]: verdict.right for item, verdict in of}
            sums = (sum(rights.values()), len(rights), 0, 0, 0, 0)
            if len(rights) == len(PLACES):
                a, b, c, d = (rights[place] for place in PLACES)
                sums = (*sums[:2], (a and b) + (c and d), (a and c) + (b and d), all((a, b, c, d)), 1)
            units.append(Unit(tuple(item.id for item, _ in of), of[0][0].group, tuple(map(float, sums))))
        return units

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """Groups with all four right."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        return np.asarray(whole[..., 4] / whole[..., 5])

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """g_acc, q_acc, i_acc, acc."""
        right, answered, questions, images, _, whole = np.moveaxis(
            np.sum(np.stack(list(totals.values())), axis=0), -1, 0
        )
        return {
            "g_acc": self.headline_value(totals),
            "q_acc": np.asarray(questions / (2 * whole)),
            "i_acc": np.asarray(images / (2 * whole)),
            "acc": np.asarray(right / answered),
        }

    def _groups(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> Iterable[list[tuple[Item, Verdict]]]:
        return judged_groups(items, judgements, lambda item: item.about["set"]).values()

    def _items(self, path: Path | None, needs_images: bool) -> list[Item | InvalidItem]:
        tables = (
            [source.hub_table(HUB, None, "train", self.name)] if path is None else source.read_tables(path, (), "train")
        )
        rows = [row for table in tables for row in table.rows]
        items = [made for number, row in enumerate(rows) for made in self._row(number, row, needs_images)]
        if not any(isinstance(item, Item) for item in items):
            first = next((item.error for item in items if isinstance(item, InvalidItem)), "the files are empty.")
            raise InputError(f"There is no question of NaturalBench to ask: {first}")
        return items

    def _row(self, number: int, row: source.Row | source.BadRow, needs_images: bool) -> Iterator[Item | InvalidItem]:
        if isinstance(row, source.BadRow):
            yield InvalidItem(row.where, f"{row.where}: {row.error}.")
            return
        kind = text(row.values.get("Question_Type")) or "yes_no"
        if kind not in LABELS:
            yield InvalidItem(
                row.where, f"{row.where}: the Question_Type {kind[:20]!r} is none of {', '.join(LABELS)}."
            )
            return
        images = {name.lower(): image for name, image in row.images.items()}
        if "Question_0" in row.values:
            for place, name in enumerate(PLACES):
                question = text(row.values.get(f"Question_{name[1]}"))
                yield self._item(
                    row.where, 4 * number + place, kind, question, images.get(f"image_{name[4]}"), needs_images
                )
            return
        index = text(row.values.get("Index"))
        question = text(row.values.get("Question")).removesuffix(self.suffixes[kind]).strip()
        image = next(iter(images.values()), None)
        yield self._item(row.where, int(index) if index.isdigit() else number, kind, question, image, needs_images)

    def _item(
        self, where: str, row: int, kind: str, question: str, image: Any, needs_images: bool
    ) -> Item | InvalidItem:
        name = f"{row // 4}/{PLACES[row % 4]}"
        if not question or (needs_images and image is None):
            return InvalidItem(name, f"{where}: there is no {'image' if question else 'question'}.")
        truth = LABELS[kind][0 if row % 4 in (0, 3) else 1]
        about = {"row": row, "set": str(row // 4), "place": PLACES[row % 4], "question": question}
        images = () if image is None else (image,)
        return Item(name, worded(self.template, question + self.suffixes[kind]), images, truth, kind, about)


def official_word(response: str, first: str, second: str) -> str | None:
    """Whichever of two words stands first in the text, in any case; None where neither does."""
    places = [
        (found.start(), word)
        for word in (first, second)
        if (found := re.search(rf"\b{re.escape(word)}\b", response, re.IGNORECASE))
    ]
    return min(places)[1] if places else None
