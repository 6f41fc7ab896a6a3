"""The benchmarks of a job: `BENCH`, `BENCH:PATH` or a `Benchmark`, their items, and a share of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.benchmarks.base import Benchmark, InvalidItem, Item, bench_fields, bench_name, benches, find_bench
from sightline.benchmarks.limit import first_items
from sightline.errors import InputError
from sightline.text import shortened

if TYPE_CHECKING:
    from sightline.benchmarks.base import Benchmark, InvalidItem, Item
    from sightline.data.sample import Sample


@dataclass(frozen=True)
class BenchmarkItems:
    """A benchmark as it is run.

    items    the share that is used, in the official order
    bad      those that cannot be used, each with its error; a limit leaves none of them out
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
    return bench_name(text) in benches()


def bench_items(
    benchmarks: Any, *, seed: int = 0, limit: int | None = None, needs_images: bool = True, **fields: Any
) -> tuple[BenchmarkItems, ...]:
    """The items of one benchmark, or of several in a list. InputError where one is named twice.

    needs_images: whether images that are not there are an error, as they are before a run.
    """
    listed = list(benchmarks) if isinstance(benchmarks, Sequence) and not isinstance(benchmarks, str) else [benchmarks]
    if not listed:
        raise InputError("There is no benchmark: give at least one (`sightline list benches`).")
    if any(each in listed[:place] for place, each in enumerate(listed)):
        raise InputError("A benchmark is named twice: name each once.")
    shared = [_shared(each, listed, fields) for each in listed]
    return tuple(
        each
        if isinstance(each, BenchmarkItems)
        else find_items(each, seed=seed, limit=limit, needs_images=needs_images, **mine)
        for each, mine in zip(listed, shared, strict=True)
    )


def _shared(given: Any, listed: Sequence[Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of options for all benchmarks those that this one takes; what none of them takes stays, to be refused."""
    named = [each for each in listed if isinstance(each, str)]
    if given not in named:
        return dict(fields)
    taken = {spec: bench_fields(bench_name(spec)) for spec in named}
    return {
        name: value
        for name, value in fields.items()
        if name in taken[given] or not any(name in others for others in taken.values())
    }


_FIELD = re.compile(r",(\w+)=")


def read_spec(text: str) -> tuple[str, str | None, dict[str, Any]]:
    """The name, the place and the fields of `BENCH[:PATH][,FIELD=VALUE...]`.

    Raises InputError for a field that the benchmark has not, one given twice, and a value of another kind.
    """
    name = bench_name(text)
    place, written = text[len(name) :], []
    if not Path(place[1:]).expanduser().exists() and (marks := list(_FIELD.finditer(place))):
        ends = [mark.start() for mark in marks[1:]] + [len(place)]
        written = [(mark[1], place[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]
        place = place[: marks[0].start()]
    fields: dict[str, Any] = {}
    for field_name, value in written:
        if field_name in fields:
            raise InputError(f"'{shortened(text)}' gives {field_name} twice: give it once.")
        fields[field_name] = _value(name, field_name, value)
    if place == ":":
        raise InputError(f"'{text}' names no place: write {name}, or {name}:PATH.")
    return name, place[1:] or None, fields


def _value(bench: str, name: str, text: str) -> Any:
    """A field's value as its kind; a field that there is not is left to `find_bench`."""
    written = re.findall(r"\w+", bench_fields(bench).get(name, "str"))
    kinds: tuple[type, ...] = (Path, bool, int, float)
    kind = next((kind for kind in kinds if kind.__name__ in written), str)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind(text.replace("\\n", "\n") if kind is str else text)
    except ValueError as error:
        raise InputError(f"{name} of {bench} is {text!r}: give a number.") from error


def find_items(
    given: str | Benchmark, *, seed: int = 0, limit: int | None = None, needs_images: bool = True, **fields: Any
) -> BenchmarkItems:
    """The items that `BENCH[:PATH][,FIELD=VALUE...]` or a benchmark stands for.

    fields: of a named one, None for a default; its own come before them.

    Raises InputError for an unknown benchmark or field, for a path without items, and where two items share an id.
    """
    if isinstance(given, Benchmark):
        bench, text, place = given, given.name, None
        if any(value is not None for value in fields.values()):
            raise InputError(f"{text} is given with its own fields: leave {', '.join(fields)} out.")
        own = {field.name: (getattr(given, field.name), field.default) for field in dataclasses.fields(given)}
        fields = {name: value for name, (value, default) in own.items() if value != default}
    elif isinstance(given, str):
        text = given
        name, place, own = read_spec(given)
        fields = {**fields, **own}
        bench = find_bench(name, **fields)
    else:
        raise InputError(f"{type(given).__name__} is no benchmark: give a name such as 'pope:FOLDER', or a Benchmark.")
    path = Path(place).expanduser() if place else None
    loaded = (bench.load if needs_images else bench.truths)(path, seed=seed, limit=limit)
    items = [entry for entry in loaded if isinstance(entry, Item)]
    bad = tuple(entry for entry in loaded if isinstance(entry, InvalidItem))
    (twice, count), *_ = Counter(entry.id for entry in loaded).most_common(1) or [("", 0)]
    if count > 1:
        raise InputError(f"{text} has {count} items with the id {twice!r}: each needs an id of its own.")
    if not loaded:
        raise InputError(f"{text} has no item to ask.")
    chosen = {name: value for name, value in fields.items() if value is not None}
    return BenchmarkItems(bench, tuple(first_items(bench, items, limit)), bad, path, tuple(items), chosen)


def first_samples(items: BenchmarkItems, count: int) -> list[Sample]:
    """The first items as samples; those without their picture are passed over."""
    found: list[Sample] = []
    for item in items.items:
        if len(found) == count:
            break
        with suppress(InputError):  # its picture is missing
            found.append(items.bench.sample(item))
    return found


def question_digest(item: Item) -> str:
    """A digest of an item's question: of its words and the names of its image files."""
    named = [Path(image).name for image in item.images if isinstance(image, str | Path)]
    text = json.dumps([item.prompt, len(item.images), named])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
