"""MMVP: 150 pairs of images that CLIP takes for alike (arXiv 2401.06209; github.com/tsb0601/MMVP)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks import choices, source
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import all_right, judged_groups, share, text, unread
from sightline.benchmarks.importers.tables import read_table
from sightline.benchmarks.yes_no import worded
from sightline.errors import InputError

HUB = "lmms-lab-eval/MMVP"
"""The table with four labels corrected; the first release is MMVP/MMVP, Questions.csv and a folder of images."""

FIRST_LABELS = {99: "(a)", 100: "(b)", 279: "(a)", 280: "(b)"}
"""What the first release says of the four questions whose labels were swapped."""


@register
@dataclass(frozen=True)
class Mmvp(Benchmark):
    """MMVP: a question with two options about each image of a pair, the right answers opposite.

    Files: the first release (Questions.csv, and "MMVP Images" beside it), or the hub's table of the corrected labels.
    The official prompt is the question and its options, "(a) ... (b) ...". template: `{question}` is the place of both.
    The official judge is GPT-4; `official` here is the rule of lmms-eval, the harness in use.
    """

    name: ClassVar[str] = "mmvp"
    title: ClassVar[str] = "MMVP"
    headline: ClassVar[str] = "pair_accuracy"
    new_tokens: ClassVar[int] = 128

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions in their order, two a pair."""
        return self._items(path, needs_images=True)

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        return self._items(path, needs_images=False)

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        letter = choices.strict_letter(response, "AB") if parser == "strict" else official_letter(response)
        return Verdict(item.id, letter, letter == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """pair_accuracy: pairs with both right / pairs with both answered. accuracy: by question."""
        judged = [item for item in items if item.id in judgements]
        pairs = [of for of in self._pairs(items, judgements) if len(of) == 2]
        return {
            "n": len(judged),
            "unparsed": unread(judgements[item.id] for item in judged),
            "pair_accuracy": share(sum(map(all_right, pairs)), len(pairs)),
            "accuracy": share(sum(judgements[item.id].right for item in judged), len(judged)),
            "pairs": len(pairs),
            "missing": len(items) - len(judged),
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """One a pair; sums: both right, pair complete, right, answered."""
        units = []
        for of in self._pairs(items, judgements):
            is_whole = len(of) == 2
            sums = (is_whole and all_right(of), is_whole, sum(verdict.right for _, verdict in of), len(of))
            units.append(Unit(tuple(item.id for item, _ in of), "", tuple(map(float, sums))))
        return units

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pair accuracy and accuracy."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        return {"pair_accuracy": self.headline_value(totals), "accuracy": np.asarray(whole[..., 2] / whole[..., 3])}

    def oddities(self, items: Sequence[Item]) -> list[str]:
        """The four labels of the first release that are swapped."""
        known = {int(item.id): item.truth for item in items if item.id.isdigit()}
        first = [number for number, label in FIRST_LABELS.items() if known.get(number) == label[1].upper()]
        if len(first) < len(FIRST_LABELS):
            return []
        return [
            "The labels of the questions 99, 100, 279 and 280 are the first release's, which are swapped; "
            f"{HUB} has them corrected."
        ]

    def words(self, question: str, options: str) -> str:
        """The question as the model reads it."""
        return f"{question} {options}".strip()

    def _pairs(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> Iterable[list[tuple[Item, Verdict]]]:
        return judged_groups(items, judgements, lambda item: item.about["pair"]).values()

    def _items(self, path: Path | None, needs_images: bool) -> list[Item | InvalidItem]:
        items = [self._item(number, row, needs_images) for number, row in enumerate(_rows(path, self.name))]
        if not any(isinstance(item, Item) for item in items):
            first = next((item.error for item in items if isinstance(item, InvalidItem)), "the files are empty.")
            raise InputError(f"There is no question of MMVP to ask: {first}")
        return items

    def _item(self, number: int, row: source.Row | source.BadRow, needs_images: bool) -> Item | InvalidItem:
        if isinstance(row, source.BadRow):
            return InvalidItem(row.where, f"{row.where}: {row.error}.")
        question, options, answer = (
            text(row.values.get(name) or row.values.get(name.lower()))
            for name in ("Question", "Options", "Correct Answer")
        )
        letter = (answer or text(row.values.get("answer"))).strip("() .").upper()
        name = text(row.values.get("Index") or row.values.get("index") or row.values.get("lndex")) or str(number + 1)
        if letter not in ("A", "B") or not question:
            return InvalidItem(name, f"{row.where}: a question and an answer of (a) or (b) are expected.")
        if needs_images and not row.images:
            return InvalidItem(name, f"{row.where}: there is no image.")
        place = int(name) - 1 if name.isdigit() else number
        about = {"question": question, "options": options, "pair": str(place // 2)}
        prompt = worded(self.template, self.words(question, options))
        return Item(name, prompt, tuple(row.images.values())[:1], letter, "", about)


def official_letter(response: str) -> str | None:
    """The letter that lmms-eval reads, in any case: the first of these that is there.

    The text is the letter, in brackets or not; it begins with it, a full stop or a blank behind; "answer is" or
    "option" stands before it; any a or b, even the last of a word, before a blank or the end; its first character.
    So "a dog" is A, and so is "I see a bird".
    """
    words = response.strip()
    for rule in _RULES:
        if found := rule.search(words):
            return found[1].upper()
    return words[0].upper() if words[:1] in ("a", "b", "A", "B") else None


_LETTER = r"\(?([AB])\)?"
_RULES = tuple(
    re.compile(rule, re.IGNORECASE)
    for rule in (
        rf"^\s*{_LETTER}\.?\s*$",
        rf"^\s*{_LETTER}[.\s]",
        rf"answer\s+is\s+{_LETTER}",
        rf"option\s+{_LETTER}",
        rf"{_LETTER}(?:\s|$)",
    )
)


def _rows(path: Path | None, bench: str) -> Iterator[source.Row | source.BadRow]:
    if path is None:
        yield from source.hub_table(HUB, None, "train", bench).rows
        return
    sheet = path if path.suffix == ".csv" else next(iter(sorted(path.rglob("Questions.csv"))), None)
    if sheet is None:
        yield from source.read_tables(path, (), "train")[0].rows
        return
    for number, row in enumerate(read_table(sheet), start=1):
        image = sheet.parent / "MMVP Images" / f"{number}.jpg"
        yield source.Row(f"{sheet.name}, question {number}", row, {"image": image} if image.is_file() else {})
