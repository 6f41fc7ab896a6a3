"""Colours: one question an image, answered by one word, in one JSON-lines file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Verdict, register
from sightline.errors import InputError

NAMES = ("red", "green", "blue", "yellow", "purple")


@register
@dataclass(frozen=True)
class Colours(Benchmark):
    """What colour is it? Lines of {"id", "image", "question", "answer"}; images lie beside the file."""

    name: ClassVar[str] = "colours"
    title: ClassVar[str] = "Colours"

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """Every line of the file."""
        if path is None or not path.is_file():
            raise InputError("The benchmark colours needs its file: write colours:FILE.jsonl.")
        return [self._item(number, line, path.parent) for number, line in enumerate(path.open(encoding="utf-8"), 1)]

    def _item(self, number: int, line: str, folder: Path) -> Item | InvalidItem:
        try:
            entry = json.loads(line)
            question = (self.template or "{question}").replace("{question}", entry["question"])
            return Item(str(entry["id"]), question, (folder / entry["image"],), entry["answer"])
        except (ValueError, KeyError, TypeError) as error:
            return InvalidItem(f"line {number}", f"line {number} is no item ({type(error).__name__}: {error})")

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """The first colour named; strictly, the only one."""
        named = [name for name in NAMES if name in response.lower()]
        parsed = named[0] if len(named) == 1 or (named and parser == "official") else None
        return Verdict(item.id, parsed, parsed == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """The share of right answers."""
        judged = [judgements[item.id] for item in items if item.id in judgements]
        right = sum(verdict.right for verdict in judged)
        unparsed = sum(verdict.parsed is None for verdict in judged)
        return {"n": len(judged), "unparsed": unparsed, "accuracy": right / len(judged) if judged else None}
