"""The benchmarks of --bench and of DATA: `BENCH` or `BENCH:PATH`, their items, and a share of them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, InvalidItem, Item


OPTIONS: dict[str, str] = {
    "split": "Only this split, configuration or subtask; several joined by +.",
    "synonyms": "CHAIR: the list of objects, in the form of the official synonyms.txt.",
    "image_list": "CHAIR: a file that names the images.",
    "singular": "CHAIR: how words are made singular: script, plain, nltk or pattern.",
    "mode": "MMMU-Pro: direct or cot.",
}
"""What can be chosen about some benchmark by an option; the others refuse it."""

FILES = ("synonyms", "image_list")

Command = TypeVar("Command", bound=Callable[..., Any])


def bench_options(function: Command) -> Command:
    """Decorator: the options that are fields of benchmarks; None where they are not given."""
    for name, words in reversed(OPTIONS.items()):
        kind: Any = click.Path(path_type=Path) if name in FILES else str
        option = click.option(
            f"--{name.replace('_', '-')}", type=kind, metavar="FILE" if name in FILES else None, help=words
        )
        function = option(function)
    return function


@dataclass(frozen=True)
class BenchmarkItems:
    """A benchmark as it is asked.

    items    the share that is asked, in the official order
    bad      those that cannot be asked, each with its error; a limit leaves none of them out
    path     where the items come from; None: the hub, or drawn
    loaded   all items that there are, before the limit
    fields   what was chosen about the benchmark, by the name of its field
    """

    bench: Benchmark
    items: tuple[Item, ...]
    bad: tuple[InvalidItem, ...] = ()
    path: Path | None = None
    loaded: tuple[Item, ...] = ()
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For tables and folder names."""
        return self.bench.name

    @property
    def ids(self) -> list[str]:
        """Of the items, then of the bad ones."""
        return [item.id for item in self.items] + [bad.id for bad in self.bad]


def is_bench(text: str) -> bool:
    """Whether the text before the first colon names a benchmark."""
    from sightline.benchmarks.base import benches

    return text.partition(":")[0] in benches()


def find_asked(text: str, *, seed: int = 0, limit: int | None = None, **fields: Any) -> BenchmarkItems:
    """The items that `BENCH` or `BENCH:PATH` stands for; fields: of the benchmark, None for a default.

    Raises InputError for an unknown benchmark or field, for a path without items, and where two items share an id.
    """
    from sightline.benchmarks.base import InvalidItem, Item, find_bench
    from sightline.benchmarks.limit import first_items

    name, colon, place = text.partition(":")
    if colon and not place:
        raise InputError(f"'{text}' names no place: write {name}, or {name}:PATH.")
    bench = find_bench(name, **fields)
    path = Path(place).expanduser() if place else None
    loaded = bench.load(path, seed=seed, limit=limit)
    items = [entry for entry in loaded if isinstance(entry, Item)]
    bad = tuple(entry for entry in loaded if isinstance(entry, InvalidItem))
    (twice, count), *_ = Counter(entry.id for entry in loaded).most_common(1) or [("", 0)]
    if count > 1:
        raise InputError(f"{text} has {count} items with the id {twice!r}: each needs an id of its own.")
    if not loaded:
        raise InputError(f"{text} has no item to ask.")
    chosen = {name: value for name, value in fields.items() if value is not None}
    return BenchmarkItems(bench, tuple(first_items(bench, items, limit)), bad, path, tuple(items), chosen)


def question_digest(item: Item) -> str:
    """Tells whether an item asks what it asked before: of its words and the names of its image files."""
    named = [Path(image).name for image in item.images if isinstance(image, str | Path)]
    text = json.dumps([item.prompt, len(item.images), named])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
