"""The benchmarks of a job: `BENCH`, `BENCH:PATH` or a `Benchmark`, their items, and a share of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, InvalidItem, Item


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


def bench_items(
    benchmarks: Any, *, seed: int = 0, limit: int | None = None, **fields: Any
) -> tuple[BenchmarkItems, ...]:
    """The items of one benchmark, or of several in a list. InputError where one is named twice."""
    listed = list(benchmarks) if isinstance(benchmarks, Sequence) and not isinstance(benchmarks, str) else [benchmarks]
    if not listed:
        raise InputError("There is no benchmark: give at least one (`sightline list benches`).")
    if any(each in listed[:place] for place, each in enumerate(listed)):
        raise InputError("A benchmark is named twice: name each once.")
    return tuple(
        each if isinstance(each, BenchmarkItems) else find_items(each, seed=seed, limit=limit, **fields)
        for each in listed
    )


def find_items(given: str | Benchmark, *, seed: int = 0, limit: int | None = None, **fields: Any) -> BenchmarkItems:
    """The items that `BENCH`, `BENCH:PATH` or a benchmark stands for; fields: of a named one, None for a default.

    Raises InputError for an unknown benchmark or field, for a path without items, and where two items share an id.
    """
    from sightline.benchmarks.base import Benchmark, InvalidItem, Item, find_bench
    from sightline.benchmarks.limit import first_items

    if isinstance(given, Benchmark):
        bench, text, place = given, given.name, ""
        if any(value is not None for value in fields.values()):
            raise InputError(f"{text} is given with its own fields: leave {', '.join(fields)} out.")
        own = {field.name: (getattr(given, field.name), field.default) for field in dataclasses.fields(given)}
        fields = {name: value for name, (value, default) in own.items() if value != default}
    elif isinstance(given, str):
        text = given
        name, colon, place = given.partition(":")
        if colon and not place:
            raise InputError(f"'{given}' names no place: write {name}, or {name}:PATH.")
        bench = find_bench(name, **fields)
    else:
        raise InputError(f"{type(given).__name__} is no benchmark: give a name such as 'pope:FOLDER', or a Benchmark.")
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
