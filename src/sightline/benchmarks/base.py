"""What every benchmark is: it loads items, asks them in its own words, reads the answers, and scores them.

A benchmark is one file that registers one class here. `load` reads official files from a folder, or from the hub by
the official name; `sample` is what the model is given; `judge` reads one raw answer; `score` is the document of all.
"""

from __future__ import annotations

import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from sightline.benchmarks.answer_fields import RESPONSE_FIELDS
from sightline.benchmarks.thinking import spoken
from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.plugins import Registry

if TYPE_CHECKING:
    import numpy as np

    from sightline.data.pictures import ImageLike

Parser = Literal["official", "strict"]
"""official: answer by answer what the benchmark's own script makes of it. strict: nothing that would be a guess."""

PARSERS: tuple[Parser, ...] = ("official", "strict")


@dataclass(frozen=True)
class Item:
    """One question.

    id      unique within the benchmark, the same in every run
    prompt  the words as the benchmark asks them; `<image>` marks where an image stands, none: all stand before
    images  in the order the prompt has them; opened only when the item's turn comes
    truth   the right answer as a JSON value: "yes", "B", for CHAIR the list of objects
    group   split or subtask, "" where there is none
    about   what else the scorer needs, as JSON values: options, image id, ...
    """

    id: str
    prompt: str
    images: tuple[ImageLike, ...] = ()
    truth: Any = None
    group: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """What results may be split by: its group and truth, and the words and numbers of `about`."""
        found = {"group": self.group or None, "truth": self.truth, **self.about}
        return {name: value for name, value in found.items() if isinstance(value, str | int | float)}


@dataclass(frozen=True)
class InvalidItem:
    """An item that cannot be used, as of a truncated file: it is recorded with its error, and the run goes on."""

    id: str
    error: str


@dataclass(frozen=True)
class Verdict:
    """What one raw answer counts for.

    parsed  the label read from the answer; None when there is none to read (counted as unparsed)
    right   whether it counts as right; for CHAIR whether the caption names no object that is not there
    detail  what else the score is made of, as JSON values
    """

    id: str
    parsed: str | None
    right: bool
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_read(self) -> bool:
        """Whether a label stood in the answer; POPE's script calls everything but a no a yes."""
        return self.parsed is not None and bool(self.detail.get("said", True))


@dataclass(frozen=True)
class Unit:
    """What is scored as one: an item, or, where items are scored together (MME), all of one image.

    ids      of its items
    stratum  units are redrawn within it, so that every subtask keeps its size
    sums     what adds up over units; `Benchmark.headline_value` makes the figure of their totals
    key      units with the same key are one draw, as POPE's question about an image in three splits; "": its own
    """

    ids: tuple[str, ...]
    stratum: str
    sums: tuple[float, ...]
    key: str = ""


@dataclass(frozen=True)
class Benchmark(ABC):
    """One benchmark. A frozen dataclass: what can be chosen about it is a field (`find_bench(name, split="random")`).

    name        on the command line
    title       for tables
    headline    the field of the score document that live progress shows and comparisons are made of
    better      whether a larger or a smaller headline is better
    new_tokens  an answer's longest length by default
    response_fields  where `sightline score` looks for the model's words in a line of an answers file, in this order

    Fields, which every benchmark has:
    template    the prompt in other words than the official ones, with `{question}` (and what else the benchmark's own
                docstring names) where the item's stand; None: the official prompt
    split       only this split, configuration or subtask, or several joined by `+`; None: all, or the official default
    """

    name: ClassVar[str]
    title: ClassVar[str]
    headline: ClassVar[str] = "accuracy"
    better: ClassVar[Literal["larger", "smaller"]] = "larger"
    new_tokens: ClassVar[int] = 16
    response_fields: ClassVar[tuple[str, ...]] = RESPONSE_FIELDS

    asks_without_image: ClassVar[bool] = False
    """Whether some of its questions are meant to have no image."""

    shares_answers_of: ClassVar[tuple[str, ...]] = ()
    """Other benchmarks of the same questions, whose run folders can be scored by this one."""

    template: str | None = field(
        default=None,
        metadata={"help": "the prompt in other words, {question} in its place (on the command line --prompt)"},
    )
    split: str | None = field(default=None, metadata={"help": "only this split or subtask; several joined by +"})

    @abstractmethod
    def load(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The items in their official order, from a local file or folder, or from the hub where `path` is None.

        seed and limit matter where items are drawn (the bundled world); elsewhere the caller takes its share itself.

        Raises InputError, in one sentence that says what files are expected, when there is nothing to load.
        """

    @abstractmethod
    def judge(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """What a raw answer counts for. Never raises, whatever the answer."""

    def verdict(self, item: Item, response: str, parser: Parser = "official") -> Verdict:
        """What a raw answer counts for without what stands in thinking tags: callers use this, not `judge`."""
        return self.judge(item, spoken(response), parser)

    @abstractmethod
    def score(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
        """The score document (docs/benchmarks.md) over the items that have a judgement; a figure of nothing is None."""

    def truths(self, path: Path | None = None, *, seed: int = 0, limit: int | None = None) -> list[Item | InvalidItem]:
        """The items as far as `sightline score` needs them: as `load`, but their images may be absent."""
        return self.load(path, seed=seed, limit=limit)

    def read_answers(self, path: Path) -> list[dict[str, Any]] | None:
        """The lines of an answers file or folder of a format of the benchmark's own; None: it is read as JSON."""
        return None

    def items_of_answers(self, records: Sequence[Mapping[str, Any]]) -> Sequence[Item | InvalidItem] | None:
        """An item a line of an answers file, in order; None: they carry none; InputError: not as they should."""
        return None

    def items_in_order(
        self, lines: Sequence[tuple[Mapping[str, Any], str | None]], items: Sequence[Item]
    ) -> list[Item | None] | None:
        """Each line's item, of (record, question), by the questions' order, or None; None for all: no order either."""
        return None

    def oddities(self, items: Sequence[Item]) -> list[str]:
        """Sentences on items that the official files have and that nobody can answer right."""
        return []

    def aliases(self, item: Item) -> tuple[str, ...]:
        """Other names that answers may carry for an item; one shared by several items needs the question beside it."""
        return ()

    def names_in(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """What an answer's line calls its item in fields of the benchmark's own, before the usual ids."""
        return ()

    def sample(self, item: Item) -> Sample:
        """What the model is given."""
        return Sample(prompt=item.prompt, images=item.images, id=item.id)

    def units(self, items: Sequence[Item], judgements: Mapping[str, Verdict]) -> list[Unit]:
        """The judged items as the bootstrap draws them; by default each on its own, right ones counted."""
        return [
            Unit((item.id,), item.group, (float(judgements[item.id].right), 1.0))
            for item in items
            if item.id in judgements
        ]

    equal_in: ClassVar[str] = ""
    """What `equalised` makes equal, as the end of the names of those figures."""

    def equalised(
        self, items: Sequence[Item], a: Mapping[str, Verdict], b: Mapping[str, Verdict]
    ) -> tuple[Mapping[str, Verdict], Mapping[str, Verdict]] | None:
        """Both sides' judgements as they would be if their answers were alike in something, as in length; None: no."""
        return None

    def frontier(
        self,
        items: Sequence[Item],
        first: Mapping[str, Verdict],
        others: Mapping[str, Mapping[str, Verdict]],
        seed: int,
    ) -> dict[str, Any] | None:
        """The others' two sides, as recall and invention, beside what the first method would have by saying less."""
        return None

    def headline_value(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """The headline, of each stratum's totals [..., sums]; by default all right ones over all items. Shape [...]."""
        whole: Any = sum(totals.values())
        return whole[..., 0] / whole[..., 1]  # type: ignore[no-any-return]

    def figures(self, totals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Figures of the score document that have intervals, the headline first, each [...]."""
        return {self.headline: self.headline_value(totals)}


BENCHMARKS: Registry[type[Benchmark]] = Registry(
    "benchmark",
    "benchmarks",
    "sightline.benchmarks",
    {
        "amber": "sightline.benchmarks.amber",
        "blink": "sightline.benchmarks.blink",
        "chair": "sightline.benchmarks.chair",
        "cv-bench": "sightline.benchmarks.cv_bench",
        "hallusionbench": "sightline.benchmarks.hallusionbench",
        "judged": "sightline.benchmarks.judged",
        "mme": "sightline.benchmarks.mme",
        "mmhal": "sightline.benchmarks.mmhal",
        "mmmu-pro": "sightline.benchmarks.mmmu_pro",
        "mmvp": "sightline.benchmarks.mmvp",
        "naturalbench": "sightline.benchmarks.naturalbench",
        "object-halbench": "sightline.benchmarks.object_halbench",
        "pope": "sightline.benchmarks.pope",
        "repope": "sightline.benchmarks.repope",
        "shapes-amber": "sightline.benchmarks.shapes_pairs",
        "shapes-blink": "sightline.benchmarks.shapes",
        "shapes-chair": "sightline.benchmarks.shapes",
        "shapes-hallusionbench": "sightline.benchmarks.shapes_pairs",
        "shapes-mme": "sightline.benchmarks.shapes",
        "shapes-mmmu-pro": "sightline.benchmarks.shapes",
        "shapes-mmvp": "sightline.benchmarks.shapes_pairs",
        "shapes-naturalbench": "sightline.benchmarks.shapes_pairs",
        "shapes-pope": "sightline.benchmarks.shapes",
    },
)
"""The benchmarks by name; each module is imported when its benchmark is looked up."""


register = BENCHMARKS.register
"""Class decorator: let the command line know a benchmark by its `name`."""


def benches() -> Mapping[str, type[Benchmark]]:
    """Every benchmark by name, those of other packages among them; each is imported when it is looked up."""
    return BENCHMARKS


def bench_name(spec: str) -> str:
    """The name in `BENCH[:PATH][,FIELD=VALUE...]`."""
    return re.split("[:,]", spec, maxsplit=1)[0]


def bench_fields(name: str) -> dict[str, str]:
    """The fields of a benchmark and their types as they are written; none where there is no such benchmark."""
    kind = benches().get(name)
    return {} if kind is None else {field.name: str(field.type) for field in dataclasses.fields(kind)}


def find_bench(name: str, **fields: Any) -> Benchmark:
    """The benchmark of this name with these fields, None for a default; InputError names those there are."""
    known = benches()
    BENCHMARKS.check(name)
    given = {field: value for field, value in fields.items() if value is not None}
    possible = [field.name for field in dataclasses.fields(known[name])]
    for field_name in given:
        if field_name not in possible:
            raise InputError(f"The benchmark {name} takes no {field_name}; it takes {', '.join(possible)}.")
    return known[name](**given)
