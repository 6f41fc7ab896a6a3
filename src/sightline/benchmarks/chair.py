"""CHAIR: does a caption name what is not in the image? (arXiv 1809.02156; github.com/LisaAnne/Hallucination)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from sightline.benchmarks.answer_fields import STRONG
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Parser, Unit, Verdict, register
from sightline.benchmarks.chair_words import Vocabulary, coco_vocabulary
from sightline.benchmarks.frontier import frontier
from sightline.benchmarks.singular import SINGULARS
from sightline.data.coco import SPLITS, CocoSplit, image_number, read_image_list, read_split
from sightline.errors import InputError

PROMPT = "Please describe this image in detail."


@register
@dataclass(frozen=True)
class Chair(Benchmark):
    """CHAIR on COCO: a caption's object words against what is annotated in the image or named by people.

    Files: a folder with captions_val2014.json and instances_val2014.json in `annotations` or anywhere below, and the
    images under `val2014`. template: the whole prompt.

    Fields:
    split       the COCO split; None: val2014, and train2014 for listed images that are not there
    synonyms    a file of lines "name, synonym, ..." as the official synonyms.txt; None: our own list
    image_list  a file that names the images, one a line or a JSON array; None: all of the split
    singular    how words are made singular: script, as the script in use makes them, so that figures are the published
                ones; plain, right English; or by the library that a script uses, where installed: nltk, pattern
    """

    name: ClassVar[str] = "chair"
    title: ClassVar[str] = "CHAIR"
    headline: ClassVar[str] = "chair_s"
    better: ClassVar[Literal["larger", "smaller"]] = "smaller"
    new_tokens: ClassVar[int] = 512
    response_fields: ClassVar[tuple[str, ...]] = (*STRONG, "caption", "answer", "text")

    synonyms: Path | None = field(
        default=None,
        metadata={"help": "a file of the objects in the form of the official synonyms.txt, not our own list"},
    )
    image_list: Path | None = field(
        default=None,
        metadata={"help": "a file that names the images, one a line or a JSON array, not all of the split"},
    )
    singular: str = field(default="script", metadata={"help": f"how words are made singular: {', '.join(SINGULARS)}"})

    def vocabulary(self) -> Vocabulary:
        """Which words name which object. A benchmark of another world gives its own, by `vocabulary_of`."""
        return coco_vocabulary(None if self.synonyms is None else Path(self.synonyms), self.singular)

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The images in the order of the list or of the captions file, each with its true objects.

        An image's true objects are the categories annotated in it and the objects that any caption by a person names.
        """
        if path is None:
            raise InputError(
                "CHAIR needs COCO's own files: give a folder with annotations/captions_val2014.json, "
                "annotations/instances_val2014.json and the images under val2014, as in chair:FOLDER."
            )
        if self.split is not None and self.split not in SPLITS:
            raise InputError(f"CHAIR has no split {self.split!r}; it has {', '.join(SPLITS)}.")
        folder = Path(path)
        first = read_split(folder, self.split or SPLITS[0])
        if self.image_list is None:
            return [self._item(number, first, folder) for number in first.files]
        names = read_image_list(Path(self.image_list))
        return self._listed(names, self._splits(names, first, folder), folder)

    def _splits(self, names: Sequence[str], first: CocoSplit, folder: Path) -> list[CocoSplit]:
        """The training split as well where it is there and the list asks for it, as the script merges the two."""
        lacking = any(image_number(name) not in first.files for name in names)
        if self.split is not None or not lacking:
            return [first]
        try:
            return [first, read_split(folder, SPLITS[1])]
        except InputError:
            if any(folder.rglob(f"*_{SPLITS[1]}.json")):
                raise
            return [first]

    def _listed(self, names: Sequence[str], splits: Sequence[CocoSplit], folder: Path) -> list[Item | InvalidItem]:
        items: list[Item | InvalidItem] = []
        for name in names:
            number = image_number(name)
            home = None if number is None else next((split for split in splits if number in split.files), None)
            if number is None or home is None:
                known = " or ".join(split.name for split in splits)
                items.append(
                    InvalidItem(name, f"The image {name} of {self.image_list} is not annotated in COCO {known}.")
                )
            else:
                items.append(self._item(number, home, folder))
        if all(isinstance(item, InvalidItem) for item in items):
            raise InputError(
                f"None of the images that {self.image_list} names is annotated in COCO {splits[0].name}: numbers or "
                f"file names such as COCO_val2014_000000000042.jpg are expected, one a line."
            )
        return items

    def _item(self, number: int, split: CocoSplit, folder: Path) -> Item:
        vocabulary = self.vocabulary()
        truth = set()
        for category in split.categories.get(number, ()):
            if category not in vocabulary.names:
                raise InputError(
                    f"The synonyms {self.synonyms or 'of this package'} have no line for COCO's {category!r}: every "
                    "annotated category needs one."
                )
            truth.add(vocabulary.names[category])
        for caption in split.captions.get(number, ()):
            truth.update(mention.name for mention in vocabulary.read(caption).mentions)
        name = split.files[number] or f"COCO_{split.name}_{number:012d}.jpg"
        return self.item(str(number), folder / split.name / name, truth, {"image_id": number, "file": name})

    def item(self, name: str, image: Any, truth: set[str], about: Mapping[str, Any]) -> Item:
        """One image to describe, with what is in it."""
        prompt = PROMPT if self.template is None else self.template.replace("{question}", PROMPT)
        return Item(name, prompt, (image,), sorted(truth), "", about)

    def aliases(self, item: Item) -> tuple[str, ...]:
        """The image's file, with and without its ending, and its number as file names write it."""
        file = str(item.about.get("file", ""))
        number = item.about.get("image_id")
        padded = f"{number:012d}" if isinstance(number, int) else ""
        return tuple(dict.fromkeys(filter(None, (file, file.rpartition(".")[0], padded))))

    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """A caption is right when every object it names is there; its label is the objects it names, in order.

        A caption without a single word is unparsed. The script counts it as a caption without hallucination; strict
        leaves it out of CHAIRs, so that silence is no merit.
        """
        words = self.vocabulary().read(response)
        truth = set(item.truth or ())
        wrong = [mention for mention in words.mentions if mention.name not in truth]
        recalled = sorted({mention.name for mention in words.mentions} & truth)
        is_out = words.is_empty and parser == "strict"
        detail = {
            "mentions": [[mention.word, mention.name] for mention in words.mentions],
            "hallucinated": [[mention.word, mention.name] for mention in wrong],
            "places": list(words.places),
            "recalled": recalled,
            "truth": len(truth),
            "words": words.count,
            "counts": not is_out,
        }
        named = ", ".join(mention.name for mention in words.mentions)
        return Verdict(item.id, None if words.is_empty else named, not wrong and not is_out, detail)

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """CHAIRs and CHAIRi as the script, recall as the script in use: over all captions together.

        object_f1: the harmonic mean of 1 - CHAIRi and recall, which silence does not raise.
        """
        judged = [judgements[item.id] for item in items if item.id in judgements]
        details = [judgement.detail for judgement in judged]
        captions = sum(detail["counts"] for detail in details)
        mentions = sum(len(detail["mentions"]) for detail in details)
        hallucinated = sum(len(detail["hallucinated"]) for detail in details)
        recalled, due = (sum(len(detail["recalled"]) for detail in details), sum(detail["truth"] for detail in details))
        precision, recall = _share(mentions - hallucinated, mentions), _share(recalled, due)
        return {
            "n": len(judged),
            "unparsed": sum(judgement.parsed is None for judgement in judged),
            "chair_s": _share(sum(bool(detail["hallucinated"]) for detail in details), captions),
            "chair_i": _share(hallucinated, mentions),
            "recall": recall,
            "object_f1": _f1(precision, recall),
            "mentions": mentions,
            "hallucinated": hallucinated,
            "missing": len(items) - len(judged),
            "objects_per_caption": _share(mentions, captions),
            "mean_words": _share(sum(detail["words"] for detail in details), captions),
        }

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """Sums: captions that hallucinate, captions, hallucinated mentions, mentions, recalled objects, objects."""
        units = []
        for item in items:
            if item.id in judgements:
                detail = judgements[item.id].detail
                wrong, named = len(detail["hallucinated"]), len(detail["mentions"])
                sums = (wrong > 0, detail["counts"], wrong, named, len(detail["recalled"]), detail["truth"])
                units.append(Unit((item.id,), item.group, tuple(map(float, sums))))
        return units

    equal_in: ClassVar[str] = "same_length"

    def equalised(
        self, items: Sequence[Item], a: Mapping[str, Verdict], b: Mapping[str, Verdict]
    ) -> tuple[Mapping[str, Verdict], Mapping[str, Verdict]] | None:
        """Each pair of captions cut to as many words as the shorter has: a longer caption names more, and errs more."""
        lengths = {item.id: min(a[item.id].detail["words"], b[item.id].detail["words"]) for item in items}
        truths = {item.id: set(item.truth or ()) for item in items}
        first, second = (
            {name: _cut(side[name], length, truths[name]) for name, length in lengths.items()} for side in (a, b)
        )
        return first, second

    def frontier(
        self,
        items: Sequence[Item],
        first: Mapping[str, Verdict],
        others: Mapping[str, Mapping[str, Verdict]],
        seed: int,
    ) -> dict[str, Any] | None:
        return frontier(items, first, others, seed)

    def chair_i_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """CHAIRi, as `headline_value` makes CHAIRs of the same totals; NaN where no object is named. Shape [...]."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(whole[..., 2] / whole[..., 3])

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """CHAIRs, CHAIRi, object F1."""
        whole = np.sum(np.stack(list(totals.values())), axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = 1 - whole[..., 2] / whole[..., 3], whole[..., 4] / whole[..., 5]
            object_f1 = np.asarray(2 * precision * recall / (precision + recall))
        return {
            "chair_s": self.headline_value(totals),
            "chair_i": self.chair_i_value(totals),
            "object_f1": object_f1,
        }


def _cut(verdict: Verdict, length: int, truth: set[str]) -> Verdict:
    """The judgement of a caption's first words."""
    detail = verdict.detail
    kept = [mention for mention, place in zip(detail["mentions"], detail["places"], strict=True) if place < length]
    wrong = [mention for mention in kept if mention[1] not in truth]
    recalled = sorted({name for _, name in kept} & truth)
    return replace(verdict, detail={**detail, "mentions": kept, "hallucinated": wrong, "recalled": recalled})


def _f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
