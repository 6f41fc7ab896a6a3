"""CV-Bench: counts, relations, depth and distance in natural images (Cambrian-1, arXiv 2406.16860)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks import choices, source
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import share, text, unread
from sightline.errors import InputError

HUB = "nyu-visionx/CV-Bench"

SOURCES = ("ADE20K", "COCO", "Omni3D")

ENDING = "\nAnswer with the option's letter from the given choices directly."


@register
@dataclass(frozen=True)
class CvBench(Benchmark):
    """CV-Bench: lettered choices, the score by source and not by question.

    Files: the hub's table, or its files in a folder (test_2d.parquet, test_3d.parquet; or JSON lines with `filename`).

    Fields:
        split: 2D or 3D. None: both.
        template: `{prompt}` is the table's prompt; None: it, and a sentence that asks for the letter.
    """

    name: ClassVar[str] = "cv-bench"
    title: ClassVar[str] = "CV-Bench"
    headline: ClassVar[str] = "score"

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions in the order of the table."""
        return self._items(path, needs_images=True)

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        return self._items(path, needs_images=False)

    def aliases(self, item: Item) -> tuple[str, ...]:
        return (str(item.about["idx"]),)

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        known = choices.letters(len(item.about["options"]))
        letter = choices.strict_letter(response, known) if parser == "strict" else official_letter(response)
        return Verdict(item.id, letter, letter == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """score: 1/2 ((ADE20K + COCO) / 2 + Omni3D), None where one of the three has no answer. accuracy: by item."""
        judged = [item for item in items if item.id in judgements]

        def by(key: str) -> dict[str, Any]:
            return {name: choices.figures(of, judgements) for name, of in choices.grouped(judged, key).items()}

        sources = by("source")
        shares = [sources[name]["accuracy"] if name in sources else None for name in SOURCES]
        known = [value for value in shares if value is not None]
        return {
            "n": len(judged),
            "unparsed": unread(judgements[item.id] for item in judged),
            "score": ((known[0] + known[1]) / 2 + known[2]) / 2 if len(known) == 3 else None,
            "accuracy": share(sum(judgements[item.id].right for item in judged), len(judged)),
            "chance": choices.mean(1 / len(item.about["options"]) for item in judged),
            "missing": len(items) - len(judged),
            "subtasks": by("task"),
            "sources": sources,
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """Redrawn within their source, all questions about an image as one draw; sums: right, answered."""
        return [
            Unit(
                (item.id,), str(item.about["source"]), (float(judgements[item.id].right), 1.0), str(item.about["image"])
            )
            for item in items
            if item.id in judgements
        ]

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """The score of each source's totals; NaN where one of the three is lacking."""
        if not all(name in totals for name in SOURCES):
            return np.full(next(iter(totals.values())).shape[:-1], np.nan)
        ade, coco, omni = (totals[name][..., 0] / totals[name][..., 1] for name in SOURCES)
        return np.asarray(((ade + coco) / 2 + omni) / 2)

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The score and the accuracy by question."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        return {"score": self.headline_value(totals), "accuracy": np.asarray(whole[..., 0] / whole[..., 1])}

    def _items(self, path: Path | None, needs_images: bool) -> list[Item | InvalidItem]:
        wanted = choices.chosen(self.split, {"2D": (), "3D": ()}, "part of CV-Bench")
        tables = (
            [source.hub_table(HUB, "default", "test", self.name)]
            if path is None
            else source.read_tables(path, (), "test")
        )
        items: list[Item | InvalidItem] = []
        seen: set[str] = set()
        for row in (row for table in tables for row in table.rows):
            made = self._item(row, path, needs_images)
            if wanted and isinstance(made, Item) and made.about["type"] not in wanted:
                continue
            if made.id in seen:
                made = InvalidItem(f"{made.id} ({row.where})", f"{row.where}: the idx {made.id} stands before it too.")
            seen.add(made.id)
            items.append(made)
        if not any(isinstance(item, Item) for item in items):
            first = next((item.error for item in items if isinstance(item, InvalidItem)), "the files are empty.")
            raise InputError(f"There is no question of CV-Bench to ask: {first}")
        return items

    def _item(self, row: source.Row | source.BadRow, path: Path | None, needs_images: bool) -> Item | InvalidItem:
        if isinstance(row, source.BadRow):
            return InvalidItem(row.where, f"{row.where}: {row.error}.")
        kind, idx = text(row.values.get("type")), text(row.values.get("idx")) or row.where
        name = f"{kind}/{idx}"
        images = tuple(row.images.values())[:1] or _file(row, path)
        try:
            options = choices.options_of(row.values.get("choices"))
            truth = text(row.values.get("answer")).strip("()")
            if truth not in choices.letters(len(options)):
                raise ValueError(f"the answer {truth[:20]!r} is no letter of its {len(options)} options")
            if needs_images and not images:
                raise ValueError("there is no image")
        except ValueError as error:
            return InvalidItem(name, f"{row.where}: {error}.")
        question = text(row.values.get("question"))
        listed = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCDEFGHIJ", options, strict=False))
        official = text(row.values.get("prompt")) or f"{question} Select from the following choices.\n{listed}"
        prompt = choices.worded(self.template or "{prompt}" + ENDING, {"prompt": official}, "prompt")
        about: dict[str, Any] = {"idx": idx, "type": kind, "options": options, "question": question}
        task = text(row.values.get("task"))
        about |= {"task": task, "source": text(row.values.get("source"))}
        about["image"] = text(row.values.get("source_filename"))  # "" where the table does not say: each its own draw
        return Item(name, prompt, images, truth, task, about)


def official_letter(response: str) -> str | None:
    """The letter that lmms-eval reads: the first sign behind blanks and opening brackets, in any case, if it is one.

    So "A dog" is A, and "I think (B)" is I, which is none of the options.
    """
    found = re.match(r"[(\s]*([A-Za-z])", response.strip())
    return found[1].upper() if found else None


def _file(row: source.Row, path: Path | None) -> tuple[Path, ...]:
    """The image that a line names beside the table, where it is there."""
    named = text(row.values.get("filename"))
    if path is None or not named:
        return ()
    folder = path if path.is_dir() else path.parent
    return tuple(file for file in (folder / named, folder / "img" / named) if file.is_file())[:1]
