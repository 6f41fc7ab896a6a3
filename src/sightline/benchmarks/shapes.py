"""The benchmarks in the bundled world: official files of drawn scenes, read and scored by the official benchmarks.

Without a path the scenes are drawn by seed into the cache; `sightline shapes` draws them into a folder of one's own.
Everything but the questions and their number is the official benchmark's: formats, parsers, scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sightline.benchmarks import choices, source
from sightline.benchmarks.base import Benchmark, InvalidItem, Item, Verdict, register
from sightline.benchmarks.blink import Blink
from sightline.benchmarks.chair import Chair
from sightline.benchmarks.chair_words import Vocabulary, read_synonyms, vocabulary_of
from sightline.benchmarks.limit import first_items
from sightline.benchmarks.mme import Mme
from sightline.benchmarks.mmmu_pro import MmmuPro
from sightline.benchmarks.pope import Pope
from sightline.benchmarks.pope_files import SPLITS
from sightline.benchmarks.singular import SINGULARS
from sightline.errors import InputError
from sightline.zoo.official import LAYOUTS, blink, mme
from sightline.zoo.official.chair import synonyms_text
from sightline.zoo.official.drawing import drawn
from sightline.zoo.questions import CAPTION_PHRASES, CHOICE_ENDINGS, LETTERS

if TYPE_CHECKING:
    from sightline.data.pictures import ImageLike


class Drawn(Benchmark):
    """A benchmark whose items are drawn where no path is given.

    drawing  its name among the drawn ones
    groups   what questions are dealt out to, evenly; () where each of them has all questions
    """

    drawing: ClassVar[str]
    groups: ClassVar[tuple[str, ...]] = ()

    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The items at a path, or as many as `limit` says (by default a few hundred) drawn by seed."""
        if path is not None:
            return super().load(path, seed=seed, limit=limit)  # type: ignore[safe-super]
        items = super().load(self._draw(seed, limit), seed=seed, limit=limit)  # type: ignore[safe-super]
        good = [item for item in items if isinstance(item, Item)]
        return list(first_items(self, good, limit)) if len(good) == len(items) else items

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        return super().truths(path or self._draw(seed, limit), seed=seed, limit=limit)

    def _draw(self, seed: int, limit: int | None) -> Path:
        """The folder; never fewer than by default, so that a small limit is no drawing of its own."""
        wanted = len(self.split.split("+")) if self.split and self.groups else len(self.groups)
        each = -(-(limit or 0) // max(1, wanted))
        return drawn(self.drawing, max(LAYOUTS[self.drawing].count, (each + each % 2) * max(1, len(self.groups))), seed)


@register
@dataclass(frozen=True)
class ShapesPope(Drawn, Pope):
    """POPE among coloured shapes: is there a red circle? Half of the things in question are absent."""

    name: ClassVar[str] = "shapes-pope"
    title: ClassVar[str] = "POPE (shapes)"
    drawing: ClassVar[str] = "pope"
    groups: ClassVar[tuple[str, ...]] = SPLITS


@register
@dataclass(frozen=True)
class ShapesMme(Drawn, Mme):
    """MME among coloured shapes: existence, count, position and color; the other ten subtasks are left out."""

    name: ClassVar[str] = "shapes-mme"
    title: ClassVar[str] = "MME (shapes)"
    drawing: ClassVar[str] = "mme"
    groups: ClassVar[tuple[str, ...]] = tuple(mme.SUBTASKS)
    perception: ClassVar[tuple[str, ...]] = tuple(mme.SUBTASKS)
    cognition: ClassVar[tuple[str, ...]] = ()


@register
@dataclass(frozen=True)
class ShapesChair(Drawn, Chair):
    """CHAIR among coloured shapes: does a caption name one of the 25 objects that is not there?

    The prompt is "Describe the image.", as the bundled models know it. Fields as for chair; synonyms: by default those
    of the drawn synonyms.txt.
    """

    name: ClassVar[str] = "shapes-chair"
    title: ClassVar[str] = "CHAIR (shapes)"
    new_tokens: ClassVar[int] = 64
    drawing: ClassVar[str] = "chair"

    singular: str = field(default="plain", metadata={"help": f"how words are made singular: {', '.join(SINGULARS)}"})

    def vocabulary(self) -> Vocabulary:
        return _vocabulary(None if self.synonyms is None else Path(self.synonyms), self.singular)

    def item(self, name: str, image: Any, truth: set[str], about: Mapping[str, Any]) -> Item:
        phrase = CAPTION_PHRASES[0]
        prompt = phrase if self.template is None else self.template.replace("{question}", phrase)
        return Item(name, prompt, (image,), sorted(truth), "", about)


@lru_cache(maxsize=8)
def _vocabulary(synonyms: Path | None, singular: str) -> Vocabulary:
    lines = [line.split(", ") for line in synonyms_text().splitlines()] if synonyms is None else read_synonyms(synonyms)
    return vocabulary_of(lines, singular=singular)


@register
@dataclass(frozen=True)
class ShapesBlink(Drawn, Blink):
    """BLINK among coloured shapes, five of its fourteen subtasks; the bundled models were trained on none of them."""

    name: ClassVar[str] = "shapes-blink"
    title: ClassVar[str] = "BLINK (shapes)"
    drawing: ClassVar[str] = "blink"
    groups: ClassVar[tuple[str, ...]] = tuple(blink.SUBTASKS)


@register
@dataclass(frozen=True)
class ShapesMmmuPro(Drawn, MmmuPro):
    """MMMU-Pro among coloured shapes; in `vision`, too, question and options are text, since the models cannot read.

    Officially a vision question is drawn into its picture. The prompt is the question, its options as "(A) red circle",
    and "Answer with the letter.", as the bundled models know it.

    Fields as for mmmu-pro; template: `{question}`, `{options}` and `{instruction}`, in every configuration.
    """

    name: ClassVar[str] = "shapes-mmmu-pro"
    title: ClassVar[str] = "MMMU-Pro (shapes)"
    drawing: ClassVar[str] = "mmmu-pro"

    def __post_init__(self) -> None:
        if self.mode != "direct":
            raise InputError(f"{self.name} has no mode {self.mode!r}: the bundled models answer directly.")

    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """As MMMU-Pro's, and a `note` where there were vision questions."""
        document = super().score(items, judgements)
        return document | ({"note": VISION_NOTE} if "vision" in document["configs"] else {})

    def _prompt(
        self, row: source.Row, options: Sequence[str], config: str, needs_images: bool
    ) -> tuple[str, tuple[ImageLike, ...]]:
        """The picture stands before the words, as in training. Raises ValueError where one of them is missing."""
        question = _IMAGE_PLACE.sub("", str(row.values.get("question") or "")).strip()
        if not question:
            raise ValueError("there is no question as text, as `sightline shapes` draws it in every configuration")
        if needs_images and not row.images:
            raise ValueError("there is no image")
        values = {
            "question": question,
            "options": "\n".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=False)),
            "instruction": CHOICE_ENDINGS[0],
        }
        words = choices.worded(self.template or "{question}\n{options}\n{instruction}", values, "question")
        return words, tuple(row.images.values())[:1]


VISION_NOTE = "question and options were given as text: unlike the official vision, they are not drawn into the picture"
_IMAGE_PLACE = re.compile(r"<image\s+\d+>")
