"""MME: 14 subtasks of yes-no questions, two an image (arXiv 2306.13394; files and calculation.py: its eval_tool)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks.answer_fields import STRONG
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.mme_files import MmeLine, answer_lines, is_table, question_lines
from sightline.benchmarks.source import BadRow, hub_table, read_tables
from sightline.benchmarks.yes_no import mme_official, strict, worded, yes_no_truth
from sightline.errors import InputError

HUB = "lmms-lab/MME"

PERCEPTION = tuple("existence count position color posters celebrity scene landmark artwork OCR".split())
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

SUBSETS = {
    "hallucination": ("existence", "count", "position", "color"),  # 800 at most, as mitigation papers print it
    "perception": PERCEPTION,
    "cognition": COGNITION,
}
"""Names of `split` that stand for several subtasks."""


@register
@dataclass(frozen=True)
class Mme(Benchmark):
    """MME: perception and cognition, scored by question and by image.

    Files: the release (a folder a subtask, in it images and a text file an image: "question TAB Yes"), or the folder of
    eval_tool (a text file a subtask: "image TAB question TAB Yes", answered with "TAB response"). Also the
    hub's parquet files.
    The official prompt is the question, which ends in "Please answer yes or no.". template: `{question}` is its place.
    """

    name: ClassVar[str] = "mme"
    title: ClassVar[str] = "MME"
    headline: ClassVar[str] = "total"

    perception: ClassVar[tuple[str, ...]] = PERCEPTION
    cognition: ClassVar[tuple[str, ...]] = COGNITION

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions, subtask by subtask, images by name; one that is missing fails its questions alone."""
        subtasks = self._subtasks()
        if path is None or is_table(path):
            return self._table(path)
        return self._items(question_lines(path, subtasks))

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """The lines of an eval_tool folder, or of one of its files; other files are read as JSON."""
        lines = answer_lines(path, self._subtasks())
        return None if lines is None else [_record(line) for line in lines]

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item] | None:
        """Lines of eval_tool always; JSON lines where each has image, question, subtask (category) and the truth.

        As in calculation.py two lines of an eval_tool file that follow one another are an image's, whatever they name.
        """
        carried = [_carried(record) for record in records]
        known = [line for line in carried if line is not None]
        if not known or len(known) < len(carried):
            return None
        items = self._items(known)
        refused = [entry for entry in items if isinstance(entry, InvalidItem)]
        if refused:
            raise InputError(refused[0].error)
        by_image = [entry for entry in items if isinstance(entry, Item)]
        return by_image if "eval_tool" not in records[0] else _paired_by_place(by_image)

    def aliases(self, item: Item) -> tuple[str, ...]:
        """subtask/image, as the hub's question_id has it."""
        return (f"{item.group}/{item.about['image']}", str(item.about["image"]))

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        label = strict(response) if parser == "strict" else mme_official(response)
        return Verdict(item.id, label, label == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """Figures by subtask, their sums, and how many images have but one of their two questions answered.

        acc: right / questions. acc_plus: images with both right / images with both answered.
        score: 100 (acc + acc_plus). mixed_pairs: pairs of eval_tool lines that name different images.
        """
        judged = [item for item in items if item.id in judgements]
        subtasks = self._figures(self.units(items, judgements))
        unparsed = Counter(item.group for item in judged if judgements[item.id].parsed is None)
        for name, figures in subtasks.items():
            figures["unparsed"] = unparsed[name]
        perception = _total(subtasks, self.perception)
        cognition = _total(subtasks, self.cognition)
        parts = [part for part in (perception, cognition) if part is not None]
        images = _images_of_pairs(judged)
        return {
            "n": len(judged),
            "unparsed": unparsed.total(),
            "total": sum(parts) if parts else None,
            "perception": perception,
            "cognition": cognition,
            "incomplete": sum(figures["incomplete"] for figures in subtasks.values()),
            "mixed_pairs": sum(len(set(names)) > 1 for names in images.values()),
            "subtasks": subtasks,
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """One an image; sums: right, answered, 1 where both are right, 1 where both are answered."""
        pairs: dict[tuple[str, str], list[Verdict]] = {}
        for item in items:
            if item.id in judgements:
                pairs.setdefault((item.group, str(item.about["pair"])), []).append(judgements[item.id])
        return [
            Unit(tuple(answer.id for answer in answers), group, _sums([answer.right for answer in answers]))
            for (group, _), answers in pairs.items()
        ]

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """The total score, of each subtask's sums [..., 4]; a subtask without a complete image adds nothing."""
        return self._sum_of((*self.perception, *self.cognition), totals)

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Total, perception, cognition."""
        return {
            "total": self.headline_value(totals),
            "perception": self._sum_of(self.perception, totals),
            "cognition": self._sum_of(self.cognition, totals),
        }

    def _sum_of(self, names: Sequence[str], totals: Mapping[str, np.ndarray]) -> np.ndarray:
        scored = [totals[name] for name in names if name in totals]
        if not scored:
            return np.full(next(iter(totals.values())).shape[:-1], np.nan)
        right, answered, both, complete = np.moveaxis(np.stack(scored), -1, 0)
        score = 100 * right / np.maximum(answered, 1) + 100 * both / np.maximum(complete, 1)
        return np.asarray(np.where(complete > 0, score, 0.0).sum(axis=0))

    def _subtasks(self) -> tuple[str, ...]:
        known = (*self.perception, *self.cognition)
        if self.split is None:
            return known
        wanted = tuple(part for name in self.split.split("+") for part in SUBSETS.get(name, (name,)))
        for name in wanted:
            if name not in known:
                raise InputError(f"{self.title} has no subtask {name!r}; it has {', '.join(known)}.")
        return wanted

    def _items(self, lines: Sequence[MmeLine]) -> list[Item | InvalidItem]:
        seen: Counter[str] = Counter()
        items: list[Item | InvalidItem] = []
        for line in lines:
            image = f"{line.subtask}/{line.image}"
            truth = yes_no_truth(line.truth)
            if truth is None or not line.question.strip():
                wrong = "there is no question" if truth else f"the truth {line.truth[:40]!r} is neither Yes nor No"
                items.append(InvalidItem(f"{image}/{line.where}", f"{line.where}: {wrong}."))
                continue
            pair = f"{image}#{seen[image] // 2}"
            seen[image] += 1
            about = {"image": line.image, "question": line.question, "pair": pair}
            images = () if line.file is None else (line.file,)
            prompt = worded(self.template, line.question)
            items.append(Item(f"{image}/{seen[image]}", prompt, images, truth, line.subtask, about))
        return items

    def _table(self, path: Path | None) -> list[Item | InvalidItem]:
        """The hub's table, or its parquet files in a local folder."""
        table = hub_table(HUB, None, "test", self.name) if path is None else read_tables(path, (), "test")[0]
        lines: dict[str, list[MmeLine]] = {name: [] for name in self._subtasks()}
        bad: list[Item | InvalidItem] = []
        for row in table.rows:
            if isinstance(row, BadRow):
                bad.append(InvalidItem(row.where, row.error))
                continue
            fields = ("category", "question_id", "question", "answer")
            subtask, image, question, truth = (str(row.values.get(name) or "") for name in fields)
            picture = next(iter(row.images.values()), None)
            line = MmeLine(subtask, image.removeprefix(f"{subtask}/"), question, truth, row.where, file=picture)
            lines.setdefault(subtask, []).append(line)
        return self._items([line for name in self._subtasks() for line in lines[name]]) + bad

    def _figures(self, units: Sequence[Unit]) -> dict[str, dict[str, Any]]:
        by_group: dict[str, list[tuple[float, ...]]] = {}
        for unit in units:
            by_group.setdefault(unit.stratum, []).append(unit.sums)
        figures = {}
        for name in (*self.perception, *self.cognition):
            if name not in by_group:
                continue
            right, answered, both, complete = (sum(column) for column in zip(*by_group[name], strict=True))
            acc = right / answered
            acc_plus = both / complete if complete else None
            figures[name] = {
                "acc": acc,
                "acc_plus": acc_plus,
                "score": None if acc_plus is None else acc * 100 + acc_plus * 100,
                "n": int(answered),
                "incomplete": len(by_group[name]) - int(complete),
            }
        return figures


def _sums(rights: Sequence[bool]) -> tuple[float, ...]:
    is_complete = len(rights) == 2
    return float(sum(rights)), float(len(rights)), float(is_complete and all(rights)), float(is_complete)


def _total(subtasks: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> float | None:
    scores = [subtasks[name]["score"] for name in names if name in subtasks and subtasks[name]["score"] is not None]
    return sum(scores) if scores else None


def _images_of_pairs(items: Sequence[Item]) -> dict[tuple[str, str], list[str]]:
    images: dict[tuple[str, str], list[str]] = {}
    for item in items:
        images.setdefault((item.group, item.about["pair"]), []).append(item.about["image"])
    return images


def _paired_by_place(items: Sequence[Item]) -> list[Item]:
    places: Counter[str] = Counter()
    paired = []
    for item in items:
        paired.append(replace(item, about={**item.about, "pair": f"{places[item.group] // 2}"}))
        places[item.group] += 1
    return paired


def _record(line: MmeLine) -> dict[str, Any]:
    record = {
        "id": f"{line.subtask}/{line.image}",
        "subtask": line.subtask,
        "image": line.image,
        "question": line.question,
        "truth": line.truth,
        "eval_tool": line.where,
    }
    return record if line.response is None else {**record, "response": line.response}


def _has_words(record: Mapping[str, Any]) -> bool:
    return any(name in record for name in STRONG)


def _carried(record: Mapping[str, Any]) -> MmeLine | None:
    """The item that a line carries beside the response; None where anything is lacking."""
    subtask = record.get("subtask", record.get("category"))
    image = record.get("image", record.get("question_id", record.get("image_path")))
    question = record.get("question", record.get("prompt"))
    truth = record.get("truth", record.get("label", record.get("answer") if _has_words(record) else None))
    found = [value for value in (subtask, image, question, truth) if isinstance(value, str)]
    if len(found) < 4:
        return None
    name = found[1].removeprefix(f"{found[0]}/")
    where = str(record.get("eval_tool", f"The answer for {found[0]}/{name}"))
    return MmeLine(found[0], name, found[2], found[3], where)
