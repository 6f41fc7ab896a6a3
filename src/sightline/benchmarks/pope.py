"""POPE: is this object in the image? Yes or no (arXiv 2305.10355; files and script: github.com/AoiDragon/POPE)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks.answer_fields import STRONG, field_of
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.pope_files import SPLITS, answer_lines, in_order, is_label_file, label_files, label_lines
from sightline.benchmarks.source import BadRow, hub_table, read_tables
from sightline.benchmarks.yes_no import pope_official, says_either, strict, worded, yes_no_truth
from sightline.errors import InputError
from sightline.files.jsonl import id_text

HUB = "lmms-lab/POPE"
"""The three COCO splits in one table; a column `category` distinguishes them."""

IMAGE_FOLDERS = ("", "images", "val2014", "coco/val2014", "coco/images", "coco", "gqa/images", "gqa")
"""Where images are looked for: beside the label file, and beside each of the two folders above it."""


@register
@dataclass(frozen=True)
class Pope(Benchmark):
    """POPE: yes-no questions about objects, half of them absent.

    Files: JSON lines {"question_id", "image", "text", "label"}, a file a split; a split is named by its file. Also the
    hub's parquet files, images within.
    The official prompt is the question alone. template: `{question}` is its place.
    """

    name: ClassVar[str] = "pope"
    title: ClassVar[str] = "POPE"

    labels: ClassVar[str] = "pope"
    """What the names of its label files hold, where a folder has others too: RePOPE's has both."""

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions, split by split. Raises InputError also when the images are not found beside the files."""
        if path is None or _is_table(path):
            return self._table(path)
        items: list[Item | InvalidItem] = []
        for name, file in self._files(path).items():
            split = self._read(name, file)
            names = [entry.about["image"] for entry in split if isinstance(entry, Item)]
            root = _image_root(file, names)
            items += [
                replace(entry, images=(root / entry.about["image"],)) if isinstance(entry, Item) else entry
                for entry in split
            ]
        return items

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        if path is None or _is_table(path):
            return self._table(path)
        return [entry for name, file in self._files(path).items() for entry in self._read(name, file)]

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """A folder with a file of answers a split, as the official label files are; None: it is read as JSON."""
        return answer_lines(path)

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item] | None:
        """Where every line has a "label" of yes or no, or an "answer" of it beside the model's words."""
        name = "label"
        if not all("label" in record for record in records) and all(field_of(record, STRONG) for record in records):
            name = "answer"
        if not records or not all(yes_no_truth(record.get(name)) for record in records):
            return None
        seen: Counter[str] = Counter()
        return [_item_of_answer(number, record, name, seen) for number, record in enumerate(records, start=1)]

    def aliases(self, item: Item) -> tuple[str, ...]:
        return (str(item.about["question_id"]),)

    def items_in_order(
        self, lines: Sequence[tuple[Mapping[str, Any], str | None]], items: Sequence[Item]
    ) -> list[Item | None] | None:
        """By the order of a split's questions: LLaVA's files number them through all splits."""
        return in_order(lines, items)

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """The detail's flag: whether the answer holds any of the words yes, no, not; without, it is unparsed."""
        if parser == "strict":
            label = strict(response)
            return Verdict(item.id, label, label == item.truth, {"said": label is not None})
        official = pope_official(response)
        return Verdict(item.id, official, official == item.truth, {"said": says_either(response)})

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """Figures over all, by split, and the mean F1 over splits; "yes" is positive. Unparsed answers are no yes."""
        answers: dict[str, list[tuple[bool, Verdict]]] = {item.group: [] for item in items}
        for item in items:
            if item.id in judgements:
                answers[item.group].append((item.truth == "yes", judgements[item.id]))
        by_split = {group: _figures(judged) for group, judged in answers.items() if judged}
        known = [figures["f1"] for figures in by_split.values() if figures["f1"] is not None]
        mean_f1 = sum(known) / len(known) if known else None
        whole = _figures([answer for judged in answers.values() for answer in judged])
        return {**whole, "mean_f1": mean_f1, "splits": by_split}

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """Sums: right, answered, yes answered, yes due, yes answered where due.

        The key is image and question: the yes half of COCO's files stands in each of the three splits.
        """
        units = []
        for item in items:
            if item.id in judgements:
                judgement = judgements[item.id]
                answered_yes, due = judgement.parsed == "yes", item.truth == "yes"
                sums = (judgement.right, True, answered_yes, due, answered_yes and due)
                image, question = (str(item.about.get(name) or "") for name in ("image", "question"))
                key = f"{image}\n{question}" if question and image not in ("", "None") else ""
                units.append(Unit((item.id,), item.group, tuple(map(float, sums)), key))
        return units

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Accuracy, F1 over all splits, and the share of answers that say yes."""
        _, answered, answered_yes, due, both = np.moveaxis(np.sum(np.stack(list(totals.values())), axis=0), -1, 0)
        return {
            "accuracy": self.headline_value(totals),
            "f1": np.asarray(2 * both / (answered_yes + due)),
            "yes_ratio": np.asarray(answered_yes / answered),
        }

    def _files(self, path: Path) -> dict[str, Path]:
        """The label file of each wanted split, in the official order of splits."""
        files = label_files(path, self.labels)
        if self.split is None:
            return files
        wanted = self.split.split("+")
        for name in wanted:
            if name not in files:
                raise InputError(f"{path} has no split {name!r}; it has {', '.join(files)}.")
        return {name: files[name] for name in wanted}

    def _read(self, split: str, file: Path) -> list[Item | InvalidItem]:
        items: list[Item | InvalidItem] = []
        seen: set[str] = set()
        for line in label_lines(file):
            bad = line.error if line.value is None else _fault(line.value)
            record = line.value or {}
            number = id_text(record.get("question_id")) or str(line.number)
            name = f"{split}/{number}"
            if bad is None and name in seen:
                bad = f"the question_id {number} stands on an earlier line too"
            if bad is not None:
                items.append(InvalidItem(f"{split}/line {line.number}", f"{file}, line {line.number}: {bad}."))
                continue
            seen.add(name)
            items.append(self._item(split, number, record["text"], record["label"], str(record.get("image") or "")))
        if not seen:
            raise InputError(
                f'{file} holds no POPE question: lines of {{"question_id", "image", "text", "label"}} with a label of '
                "yes or no are expected."
            )
        return items

    def _item(self, split: str, number: str, question: str, label: Any, image: str) -> Item:
        about = {"question_id": number, "question": question, "image": image}
        return Item(f"{split}/{number}", worded(self.template, question), (), yes_no_truth(label), split, about)

    def _table(self, path: Path | None) -> list[Item | InvalidItem]:
        """The hub's table, or its parquet files in a local folder."""
        table = hub_table(HUB, None, "test", self.name) if path is None else read_tables(path, ("Full",), "test")[0]
        groups: dict[str, list[Item | InvalidItem]] = {name: [] for name in SPLITS}
        bad: list[Item | InvalidItem] = []
        for row in table.rows:
            if isinstance(row, BadRow):
                bad.append(InvalidItem(row.where, row.error))
                continue
            split, number, label = (str(row.values.get(name)) for name in ("category", "question_id", "answer"))
            if fault := _fault({"text": row.values.get("question"), "label": label}):
                bad.append(InvalidItem(row.where, f"{row.where}: {fault}."))
                continue
            item = self._item(split, number, row.values["question"], label, str(row.values.get("image_source")))
            groups.setdefault(split, []).append(replace(item, images=tuple(row.images.values())))
        groups = {name: items for name, items in groups.items() if items}
        wanted = list(groups) if self.split is None else self.split.split("+")
        for name in wanted:
            if name not in groups:
                raise InputError(f"{path or HUB} has no split {name!r}; it has {', '.join(groups)}.")
        return [item for name in wanted for item in groups[name]] + bad


def _figures(answers: Sequence[tuple[bool, Verdict]]) -> dict[str, Any]:
    """Figures of (whether yes is true, answer) as evaluate.py computes them.

    Where that divides by zero F1 is 0 if a yes was answered or due, and the other figures are None.
    """
    n = len(answers)
    positives = sum(is_positive for is_positive, _ in answers)
    answered_yes = sum(answer.parsed == "yes" for _, answer in answers)
    true_yes = sum(is_positive and answer.parsed == "yes" for is_positive, answer in answers)
    precision = true_yes / answered_yes if answered_yes else None
    recall = true_yes / positives if positives else None
    f1 = 0.0 if answered_yes or positives else None
    if precision and recall:
        f1 = 2 * precision * recall / (precision + recall)
    return {
        "n": n,
        "unparsed": sum(not answer.detail.get("said", True) for _, answer in answers),
        "accuracy": sum(answer.right for _, answer in answers) / n if n else None,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "yes_ratio": answered_yes / n if n else None,
    }


def _is_table(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".parquet", ".arrow")
    has_labels = any(file.suffix in (".json", ".jsonl") and is_label_file(file) for file in path.glob("*.json*"))
    return not has_labels and any(any(path.rglob(f"*{suffix}")) for suffix in (".parquet", ".arrow"))


def _fault(record: Mapping[str, Any]) -> str | None:
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        return 'there is no question under "text"'
    if yes_no_truth(record.get("label")) is None:
        return f"the label {str(record.get('label'))[:40]!r} is neither yes nor no"
    return None


def _image_root(file: Path, names: Sequence[str]) -> Path:
    folder = file.resolve().parent
    looked = [above / name for above in (folder, *folder.parents[:2]) for name in IMAGE_FOLDERS]
    first = [name for name in names[:10] if name]
    for root in looked:
        if any((root / name).is_file() for name in first):
            return root
    where = ", ".join(name for name in IMAGE_FOLDERS if name)
    raise InputError(
        f"The images of {file} (the first is {first[0] if first else 'not named'}) are not found: put or link them "
        f"beside it, in {folder}, or there or up to two folders above in a folder {where}."
    )


def _item_of_answer(number: int, record: Mapping[str, Any], truth: str, seen: Counter[str]) -> Item:
    group = str(record.get("split") or record.get("category") or "")
    names = (id_text(record.get(field)) for field in ("id", "question_id", "index"))
    given = next((name for name in names if name is not None), str(number))
    name = given if not group or given.startswith(f"{group}/") else f"{group}/{given}"
    if "doc_id" in record:  # of lmms-eval, whose newer form does not name the split
        name = f"doc {id_text(record['doc_id'])}"
    seen[name] += 1
    question = str(record.get("question") or record.get("prompt") or record.get("text") or "")
    about = {
        "question_id": given,
        "question": question,
        "image": str(record.get("image") or record.get("image_source") or ""),
    }
    return Item(
        name if seen[name] == 1 else f"{name}/{seen[name]}", question, (), yes_no_truth(record[truth]), group, about
    )
