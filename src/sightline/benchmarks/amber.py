"""AMBER: what a description invents, and yes-no questions on existence, attributes, relations (arXiv 2311.07397).

Files and script: github.com/junyangwang0410/AMBER.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.benchmarks.amber_words import (
    SMALL,
    WordLists,
    description_figures,
    judge_description,
    near_by_vectors,
    percent,
)
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import text, unread
from sightline.benchmarks.yes_no import strict, worded
from sightline.errors import InputError
from sightline.files.jsonl import json_objects

PARTS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
    "generative": "generative",
}
"""The types of the annotations, and what the parts are called here."""

ATTRIBUTES = ("state", "number", "action")


@register
@dataclass(frozen=True)
class Amber(Benchmark):
    """AMBER: 1,004 descriptions and 14,216 yes-no questions about the same images, "no" being what is looked for.

    Files: data/annotations.json, data/query/query_all.json and, for descriptions, data/relation.json and
    data/safe_words.txt; the images in a folder beside data. The official prompts are the queries. template:
    `{question}` is their place.

    The yes-no parts are exactly the script's. Of descriptions the script takes nouns by NLTK's tagger and forgives what
    lies near in spaCy's vectors (500 MB): here the words of relation.json count wherever they stand, and only equal
    words and listed associations are forgiven, so CHAIR, Hal and Cog are upper and Cover is a lower bound of the
    script's as far as vectors go.

    Fields:
        split: existence, state, number, action, attribute, relation, discriminative or generative; several joined by +.
            None: all.
        similarity: of descriptions: equal forgives equal and associated words alone; vectors also what lies near a true
            word in spaCy's large vectors, as the script does.
    """

    name: ClassVar[str] = "amber"
    title: ClassVar[str] = "AMBER"
    headline: ClassVar[str] = "accuracy"
    new_tokens: ClassVar[int] = 256

    similarity: Literal["equal", "vectors"] = field(
        default="equal", metadata={"help": "equal, or vectors: also forgive what lies near in spaCy's vectors (500 MB)"}
    )

    def __post_init__(self) -> None:
        if self.similarity not in ("equal", "vectors"):
            raise InputError(f"AMBER has no similarity {self.similarity!r}; it has equal and vectors.")

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The queries in the order of query_all.json."""
        if path is None:
            raise InputError(
                "AMBER's files are not on the hub: give the folder of github.com/junyangwang0410/AMBER and its images, "
                "as in amber:FOLDER (to `sightline score`: --data FOLDER)."
            )
        folder = _data_folder(path)
        known = {text(line.get("id")): line for line in _objects(folder / "annotations.json")}
        words = WordLists.read(folder)
        wanted = self._parts()
        items: list[Item | InvalidItem] = []
        for query in _objects(_queries(folder)):
            name = text(query.get("id"))
            made = self._item(name, query, known.get(name), folder, words)
            if isinstance(made, InvalidItem) or made.group in wanted:
                items.append(made)
        if not any(isinstance(item, Item) for item in items):
            raise InputError(
                f"{path} has no question of AMBER to ask: annotations.json and query_all.json do not meet."
            )
        return items

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """official: exactly "Yes" or "No", so that "yes" and "Yes." are wrong. A description is right where nothing in
        it is invented; its label is the words that count.
        """
        if item.group == "generative":
            return judge_description(item, response, *([near_by_vectors()] if self.similarity == "vectors" else []))
        label = strict(response) if parser == "strict" else {"Yes": "yes", "No": "no"}.get(response)
        return Verdict(item.id, label, label == item.truth)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """Shares as the script computes them from its rounded percentages: accuracy, precision, recall and F1 of "no".

        amber: (1 - CHAIR + F1) / 2, where both parts are answered, as the paper has it.
        """
        judged = [item for item in items if item.id in judgements]
        sums = self._sums(judged, judgements)
        yes_no = sum((sums[name] for name in sums if name != "generative"), start=np.zeros(5))
        parts = {
            name: _yes_no(sums[name], SMALL if name == "existence" else SMALL / 10) for name in sums if name in _BY
        }
        attributes = sum((sums[name] for name in ATTRIBUTES if name in sums), start=np.zeros(5))
        if attributes[1]:
            parts["attribute"] = _yes_no(attributes, SMALL / 10)
        document = _yes_no(yes_no, SMALL / 10) if yes_no[1] else dict.fromkeys(("accuracy", *_FIGURES))
        document |= {"n": len(judged), "unparsed": unread(judgements[item.id] for item in judged)}
        described = description_figures([judgements[item.id] for item in judged if item.group == "generative"])
        document |= described
        chair, f1 = described["chair"], document["f1"]
        document["amber"] = None if chair is None or f1 is None else (1 - chair + f1) / 2
        document["similarity"] = self.similarity
        return {**document, "missing": len(items) - len(judged), "subtasks": parts}

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """One an item, all of an image one draw. Sums: right, answered, "no" answered, "no" due, both; and of
        descriptions invented words, words, descriptions that invent, descriptions.
        """
        units = []
        for item in items:
            if item.id in judgements:
                verdict = judgements[item.id]
                sums: tuple[float, ...]
                if item.group == "generative":
                    detail = verdict.detail
                    sums = (0, 0, 0, 0, 0, detail["invented"], detail["nouns"], not verdict.right, 1)
                else:
                    answered_no, due = verdict.parsed == "no", item.truth == "no"
                    sums = (verdict.right, 1, answered_no, due, answered_no and due, 0, 0, 0, 0)
                units.append(Unit((item.id,), item.group, tuple(map(float, sums)), str(item.about["image"])))
        return units

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Accuracy and F1 of the yes-no questions; CHAIR and Hal of descriptions; those of nothing are NaN."""
        right, answered, answered_no, due, both, invented, nouns, hal, described = np.moveaxis(
            np.sum(np.stack(list(totals.values())), axis=0), -1, 0
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "accuracy": np.asarray(right / answered),
                "f1": np.asarray(2 * both / (answered_no + due)),
                "chair": np.asarray(invented / nouns),
                "hal": np.asarray(hal / described),
            }

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.figures(totals)["accuracy"]

    def _sums(self, items: Iterable[Item], judgements: Mapping[str, Verdict]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for unit in self.units(list(items), judgements):
            found[unit.stratum] = found.get(unit.stratum, np.zeros(5)) + np.asarray(unit.sums[:5])
        return found

    def _parts(self) -> set[str]:
        all_parts = set(PARTS.values())
        groups = {"attribute": set(ATTRIBUTES), "discriminative": all_parts - {"generative"}}
        if self.split is None:
            return all_parts
        wanted: set[str] = set()
        for name in self.split.split("+"):
            if name not in all_parts and name not in groups:
                raise InputError(f"AMBER has no part {name!r}; it has {', '.join(sorted({*all_parts, *groups}))}.")
            wanted |= groups.get(name, {name})
        return wanted

    def _item(
        self, name: str, query: Mapping[str, Any], known: Mapping[str, Any] | None, folder: Path, words: WordLists
    ) -> Item | InvalidItem:
        question, image = text(query.get("query")), text(query.get("image"))
        part = PARTS.get(text((known or {}).get("type")))
        truth: Any = (known or {}).get("truth")
        is_described = part == "generative"
        if (
            part is None
            or not question
            or (truth not in ("yes", "no") and not (is_described and isinstance(truth, list)))
        ):
            return InvalidItem(
                name or "?", f"{folder}: the query {name!r} has no question or no annotation of a known type."
            )
        about: dict[str, Any] = {"image": image, "question": question}
        if is_described:
            about |= words.about(truth, (known or {}).get("hallu") or [])
            truth = sorted(truth)
        return Item(name, worded(self.template, question), (_image(folder, image),), truth, part, about)


# Yes and no ----------------------------------------------------------------------------------------------------------

_FIGURES = ("precision", "recall", "f1")
_BY = ("existence", "state", "number", "action", "relation")


def _yes_no(sums: np.ndarray, small: float) -> dict[str, Any]:
    """sums: right, answered, "no" answered, "no" due, "no" answered where due. small: in the script's divisor of F1."""
    right, answered, answered_no, due, both = map(float, sums)
    precision, recall = percent(both, answered_no), percent(both, due)
    f1 = round(2 * (precision / 100) * (recall / 100) / (precision / 100 + recall / 100 + small) * 100, 1)
    return {
        "n": int(answered),
        "accuracy": percent(right, answered) / 100,
        "precision": precision / 100,
        "recall": recall / 100,
        "f1": f1 / 100,
    }


# Files ---------------------------------------------------------------------------------------------------------------


def _data_folder(path: Path) -> Path:
    for folder in (path, path / "data", path.parent):
        if (folder / "annotations.json").is_file():
            return folder
    raise InputError(
        f"{path} holds no annotations.json: the folder of AMBER's repository, or its folder data, is expected."
    )


def _queries(folder: Path) -> Path:
    places = [folder / "query" / "query_all.json", folder / "query_all.json"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"{folder} holds no query/query_all.json, AMBER's questions.")
    return found


def _objects(file: Path) -> list[dict[str, Any]]:
    return [line.value for line in json_objects(file) if line.value is not None]


def _image(folder: Path, name: str) -> Path:
    places = [above / below / name for above in (folder, folder.parent) for below in ("image", "images", "AMBER", "")]
    return next((place for place in places if place.is_file()), places[0])
