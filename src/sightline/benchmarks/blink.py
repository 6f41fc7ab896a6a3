"""BLINK: 14 tasks of visual perception as lettered choices over up to four images (arXiv 2404.12390).

Files: BLINK-Benchmark/BLINK of the hub. Scripts: github.com/zeyofu/BLINK_Benchmark, eval/test_benchmark.py and
evaluate.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from sightline.benchmarks import choices, source
from sightline.benchmarks.answer_fields import RESPONSE_FIELDS, STRONG
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Verdict, register
from sightline.errors import InputError
from sightline.files.jsonl import id_text

HUB = "BLINK-Benchmark/BLINK"

SUBTASKS = (
    "Art_Style Counting Forensic_Detection Functional_Correspondence IQ_Test Jigsaw Multi-view_Reasoning "
    "Object_Localization Relative_Depth Relative_Reflectance Semantic_Correspondence Spatial_Relation "
    "Visual_Correspondence Visual_Similarity"
).split()

OPTIONS = dict(zip(SUBTASKS, (2, 4, 4, 4, 4, 2, 2, 2, 2, 3, 4, 2, 4, 2), strict=True))
"""How many options the questions of each subtask have, for answers that do not carry them."""

IMAGES = ("image_1", "image_2", "image_3", "image_4")

LETTERS = ("(A)", "(B)", "(C)", "(D)", "(E)")


@register
@dataclass(frozen=True)
class Blink(Benchmark):
    """BLINK: perception that people do within a blink. Answers are "(A)", "(B)", ...; the score is the subtasks' mean.

    Only the val split (1901 questions) has answers; those of test are known to the official server alone.

    Fields:
        split: subtasks, as Counting or Jigsaw+Relative_Depth. None: all.
        template: `{prompt}` is the official prompt; or `{question}` and `{options}` ("(A) ...", one a line).
    """

    name: ClassVar[str] = "blink"
    title: ClassVar[str] = "BLINK"
    response_fields: ClassVar[tuple[str, ...]] = ("prediction", "full_prediction", *RESPONSE_FIELDS)

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The questions, subtask by subtask in alphabetical order, each in the order of its file."""
        return self._items(path, needs_images=True)

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        return self._items(path, needs_images=False)

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """Unparsed answers are wrong with both parsers: the official script would ask a language model about them."""
        count = item.about["choices"] or OPTIONS.get(item.group) or len(LETTERS)
        if isinstance(response, Settled):
            label = str(response) if response in LETTERS else None
            return Verdict(item.id, label, label == item.truth)
        if parser == "strict":
            letter = choices.strict_letter(response, choices.letters(count))
            label = f"({letter})" if letter else None
        else:
            label = official_label(response, count)
        return Verdict(item.id, label, label == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """`accuracy` is the mean of the subtasks that are present, whatever their sizes, as evaluate.py has it."""
        judged = [item for item in items if item.id in judgements]
        by_subtask = choices.grouped(judged, "subtask")
        subtasks = {name: choices.figures(of, judgements) for name, of in by_subtask.items()}
        chances = [choices.mean(1 / (item.about["choices"] or 1) for item in of) for of in by_subtask.values()]
        is_known = all(item.about["choices"] for item in judged)
        return {
            "n": len(judged),
            "accuracy": choices.mean(figures["accuracy"] for figures in subtasks.values()),
            "unparsed": sum(judgements[item.id].parsed is None for item in judged),
            "missing": len(items) - len(judged),
            "chance": choices.mean(chance for chance in chances if chance is not None) if is_known else None,
            "subtasks": subtasks,
        }

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """The mean over subtasks of right over all."""
        return np.asarray(np.mean(np.stack([of[..., 0] / of[..., 1] for of in totals.values()]), axis=0))

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """The official outputs: a file a subtask of {"val": [{"idx", "answer", "full_prediction", "prediction"}]}, or
        the predictions of all in one, {"val_Counting_1": "(A)", ...}. What they say of the test split is left out.
        """
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        records: list[dict[str, Any]] = []
        for file in files:
            found = _official_records(file)
            if found is None:
                return None
            records += found
        return records or None

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item] | None:
        """Where every line has an "idx" and an "answer" of "(A)" to "(E)" beside the model's words."""
        named = ("full_prediction", "text", *STRONG)
        if not records or not all(
            record.get("answer") in LETTERS and id_text(record.get("idx")) and any(name in record for name in named)
            for record in records
        ):
            return None
        items: list[Item] = []
        seen: dict[str, int] = {}
        for record in records:
            name = str(id_text(record["idx"]))
            seen[name] = seen.get(name, 0) + 1
            subtask = _subtask_of({"idx": name, "sub_task": record.get("sub_task")}, "")
            options = record.get("choices")
            prompt = str(record.get("prompt") or "")
            about = {"choices": len(options) if isinstance(options, list) else _listed(prompt), "subtask": subtask}
            unique = name if seen[name] == 1 else f"{name}/{seen[name]}"
            items.append(Item(unique, prompt, (), record["answer"], subtask, about))
        return items

    def _items(self, path: Path | None, needs_images: bool) -> list[Item | InvalidItem]:
        wanted = choices.chosen(self.split, dict.fromkeys(SUBTASKS, ()), "subtask of BLINK") or SUBTASKS
        if path is None:
            tables = [source.hub_table(HUB, name, "val", self.name) for name in wanted]
        else:
            tables = source.read_tables(path, SUBTASKS, "val")
        items: list[Item | InvalidItem] = []
        seen: set[str] = set()
        for table in tables:
            for row in table.rows:
                made = self._item(row, table.config, needs_images)
                if (made.group if isinstance(made, Item) else table.config or wanted[0]) not in wanted:
                    continue
                if made.id in seen:
                    made = InvalidItem(
                        f"{made.id} ({row.where})", f"{row.where}: the idx {made.id} stands before it too."
                    )
                seen.add(made.id)
                items.append(made)
        if all(isinstance(item, InvalidItem) for item in items):
            reason = next(
                (item.error for item in items if isinstance(item, InvalidItem)), f"{path} has no {self.split}."
            )
            raise InputError(f"There is no question of BLINK to ask: {reason}")
        if all(table.config for table in tables):
            return items
        order = {name: place for place, name in enumerate(SUBTASKS)}  # rows of all subtasks in one file
        return sorted(items, key=lambda item: order.get(item.group if isinstance(item, Item) else "", len(order)))

    def _item(self, row: source.Row | source.BadRow, config: str, needs_images: bool) -> Item | InvalidItem:
        if isinstance(row, source.BadRow):
            return InvalidItem(row.where, f"{row.where}: {row.error}.")
        name = id_text(row.values.get("idx")) or row.where
        try:
            options = choices.options_of(row.values.get("choices"))
            truth = _truth(row.values.get("answer"), options)
            images = tuple(row.images[image] for image in IMAGES if image in row.images)
            if needs_images and not images:
                raise ValueError("there is no image")
            prompt = self._prompt(row.values, options)
        except ValueError as error:
            return InvalidItem(name, f"{row.where}: {error}.")
        subtask = _subtask_of(row.values, config)
        question = str(row.values.get("question") or "")
        about = {"choices": len(options), "subtask": subtask, "question": question, "options": options}
        return Item(name, prompt, images, truth, subtask, about)

    def _prompt(self, values: Mapping[str, Any], options: Sequence[str]) -> str:
        listed = "\n".join(f"{label} {option}" for label, option in zip(LETTERS, options, strict=False))
        question = str(values.get("question") or "")
        official = str(values.get("prompt") or "") or f"{question}\nSelect from the following choices.\n{listed}"
        if not (values.get("prompt") or question.strip()):
            raise ValueError("there is neither a prompt nor a question")
        given = {"prompt": official, "question": question, "options": listed}
        given = {name: choices.without_markers(text) for name, text in given.items()}
        if self.template is None:
            return given["prompt"]
        return choices.worded(self.template, given, "prompt" if "{question}" not in self.template else "question")


class Settled(str):
    """The `prediction` of an official output: what the official pipeline made of the words, compared to the letter."""


def official_label(response: str, count: int) -> str | None:
    """The label that analyze_answer of test_benchmark.py reads; None where it would ask a language model.

    The response is exactly a letter A to E, with or without brackets, whatever the options; or exactly one of the
    options' "(A)" stands between blanks in its last paragraph (behind the last empty line), or else in all of it.
    "(A)." and "**(A)**" do not stand between blanks.
    """
    if response in LETTERS or f"({response})" in LETTERS:
        return response if response in LETTERS else f"({response})"
    known = set(LETTERS[:count])
    anywhere = known.intersection(response.split())
    last = known.intersection(response.split("\n\n")[-1].split())
    if len(last) == 1:
        return last.pop()
    return anywhere.pop() if len(anywhere) == 1 else None


def _listed(prompt: str) -> int | None:
    """How many options a prompt lists, one a line; None where it lists none."""
    count = 0
    while count < len(LETTERS) and re.search(rf"^\s*{re.escape(LETTERS[count])}", prompt, re.MULTILINE):
        count += 1
    return count or None


def _truth(answer: object, options: Sequence[str]) -> str:
    """ "(A)", also of "A"; ValueError for what is no letter of the options."""
    letter = str(answer or "").strip().strip("()")
    if letter == "hidden":
        raise ValueError("the answer is hidden: only the val split has answers, the official server judges test")
    if letter not in choices.letters(min(len(options), len(LETTERS))):
        raise ValueError(f"the answer {str(answer)[:20]!r} is no letter of its {len(options)} options")
    return f"({letter})"


def _subtask_of(values: Mapping[str, Any], config: str) -> str:
    """By the folder, the row's own word, or its idx ("val_Art_Style_1"), in the official spelling where it is known."""
    idx = re.fullmatch(r"(?:val|test)_(.+)_\d+", str(values.get("idx") or ""))
    found = config or str(values.get("sub_task") or "") or (idx[1] if idx else "")
    known = {choices.plain_name(name): name for name in SUBTASKS}
    return known.get(choices.plain_name(found), found)


def _official_records(file: Path) -> list[dict[str, Any]] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("val"), list):
        return [_settled(record) for record in content["val"] if isinstance(record, dict)]
    if content and all(re.fullmatch(r"(?:val|test)_.+_\d+", name) for name in content):
        return [
            {"idx": name, "response": Settled(named) if isinstance(named, str) else named}
            for name, named in content.items()
            if name.startswith("val_")
        ]
    return None


def _settled(record: dict[str, Any]) -> dict[str, Any]:
    named = record.get("prediction")
    return {**record, "prediction": Settled(named)} if isinstance(named, str) else record
