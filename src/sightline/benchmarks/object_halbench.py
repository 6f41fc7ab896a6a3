"""Object HalBench: CHAIR of descriptions whose objects a language model has named (RLHF-V, arXiv 2312.00849).

Its script has the objects read by that model and writes them down, beside COCO's; its file is scored here, alone or in
pairs. Without the judge the same descriptions can be scored by words: `sightline score chair`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.groups import share, text
from sightline.errors import InputError


@register
@dataclass(frozen=True)
class ObjectHalBench(Benchmark):
    """Object HalBench: descriptions whose objects were named by a judge.

    An answers file is the script's output `hall_...json` with "sentences": of each description "image_id", "caption",
    "mscoco_generated_words", "mscoco_hallucinated_words", "mscoco_gt_words".
    """

    name: ClassVar[str] = "object-halbench"
    title: ClassVar[str] = "Object HalBench"
    headline: ClassVar[str] = "response_hallucination"
    better: ClassVar[Literal["larger", "smaller"]] = "smaller"

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """Nothing: there are no questions here, only the output of the script."""
        raise InputError(
            "object-halbench has no questions to ask here: give the script's hall_...json to `sightline score` or "
            "`sightline compare`, or describe COCO's images with `sightline eval --bench chair:COCO`."
        )

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """The script's output; None for other files. InputError for a sentence without its fields."""
        if not path.is_file() or path.suffix != ".json":
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        sentences = found.get("sentences") if isinstance(found, dict) else None
        if not isinstance(sentences, list) or not sentences:
            return None
        records, seen = [], dict[str, int]()
        for number, sentence in enumerate(sentences, start=1):
            try:
                image = text(sentence["image_id"])
                words = [_name(word) for word in sentence["mscoco_generated_words"]]
                wrong = [_name(word[1]) for word in sentence["mscoco_hallucinated_words"]]
                record = {"response": text(sentence["caption"]), "words": words, "wrong": wrong}
                record["truth"] = [text(word) for word in sentence["mscoco_gt_words"]]
            except (KeyError, TypeError, IndexError) as error:
                raise InputError(f"{path}, sentence {number}: {error} is lacking or of another kind.") from error
            seen[image] = seen.get(image, 0) + 1
            records.append({"id": image if seen[image] == 1 else f"{image}/{seen[image]}", **record})
        return records

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> list[Item] | None:
        """One a description, with its objects."""
        if not records or not all("words" in record and "wrong" in record for record in records):
            raise InputError(
                'There are no objects named by a judge: the script\'s output with "sentences" is expected.'
            )
        return [
            Item(
                text(record["id"]),
                "",
                truth=record["truth"],
                about={"words": record["words"], "wrong": record["wrong"]},
            )
            for record in records
        ]

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """What the judge named, whatever the words; a description without an object of COCO's is unparsed."""
        words, wrong = list(item.about["words"]), list(item.about["wrong"])
        recalled = len(set(words) & set(item.truth))
        detail = {"words": len(words), "wrong": wrong, "recalled": recalled, "length": len(response.strip().split(" "))}
        return Verdict(item.id, ", ".join(words) or None, not wrong, detail)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """response_hallucination: descriptions that invent / those that name an object of COCO's (CHAIRs_refine);
        object_hallucination: invented / named objects (CHAIRi); chair_s: of all descriptions; recall; object_f1.
        """
        judged = [item for item in items if item.id in judgements]
        details = [judgements[item.id].detail for item in judged]
        words, wrong = sum(detail["words"] for detail in details), sum(len(detail["wrong"]) for detail in details)
        inventing = sum(bool(detail["wrong"]) for detail in details)
        recall = share(sum(detail["recalled"] for detail in details), sum(len(item.truth) for item in judged))
        precision = share(words - wrong, words)
        both = None if precision is None or recall is None else precision + recall
        return {
            "n": len(judged),
            "unparsed": sum(not detail["words"] for detail in details),
            "response_hallucination": share(inventing, sum(detail["words"] > 0 for detail in details)),
            "object_hallucination": share(wrong, words),
            "chair_s": share(inventing, len(judged)),
            "recall": recall,
            "object_f1": None if both is None else share(2 * (precision or 0) * (recall or 0), both) or 0.0,
            "mean_words": share(sum(detail["length"] for detail in details), len(judged)),
            "missing": len(items) - len(judged),
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """Sums: descriptions that invent, that name an object, invented objects, objects."""
        units = []
        for item in items:
            if item.id in judgements:
                detail = judgements[item.id].detail
                sums = (bool(detail["wrong"]), detail["words"] > 0, len(detail["wrong"]), detail["words"])
                units.append(Unit((item.id,), "", tuple(map(float, sums)), item.id.partition("/")[0]))
        return units

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Of responses and of objects."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        objects = np.asarray(whole[..., 2] / whole[..., 3])
        return {"response_hallucination": self.headline_value(totals), "object_hallucination": objects}


def _name(word: Any) -> str:
    """An object's category: the last of a list of names, as the script compares them; or the name itself."""
    return text(word[-1]) if isinstance(word, list) and word else text(word)
