"""The files of `tables/`: one published table each, read and checked.

A file says what is run and what was published about it. Every figure has a source and a status:

    confirmed   read in the method's own public code or files
    reported    quoted by a third party; the paper itself was not read
    derived     our arithmetic
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from sightline.errors import InputError
from sightline.files.yaml import read_yaml
from sightline.probes.dominance.published import PUBLISHED

Kind = Literal["measure", "eval", "flow"]
Status = Literal["confirmed", "reported", "derived"]

TABLES = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Published:
    """Figures that were published for one method.

    Attributes:
        method: as `methods` of the reproduction has it; of a flow, its name.
        source: where the figures stand.
        status: see the module.
        row: name of a row of `sightline.probes.dominance.PUBLISHED`, in place of figures.
        figures: by name: "accuracy", or with the split or subtask before it, "random accuracy". Shares; of MME points.
        note: what else to know of them.
    """

    method: str
    source: str
    status: Status
    row: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Reproduction:
    """One published table, and how it is run.

    Attributes:
        name: of the file.
        title, source: what it is, and where it was published.
        kind: "measure" (MDI and AEI), "eval" (a benchmark) or "flow" (attention knocked out in windows of layers).
        model: a hub name; None where no folder of the hub in Transformers' own format is known to us.
        bench: the benchmark whose items are used; None where the data are a file of the user's.
        data: what file is expected, one sentence; of a benchmark, what its path is.
        files: how the names of its data's files begin, where the benchmark has others; without those it is not run.
        methods: specs, the first is what the others are compared with.
        published: the figures; empty where none could be sourced.
        claims: what was published without figures, in words.
        differs: what is not as in the source, or not known of it, a sentence each.
        queries, stages: of a measurement.
        new_tokens: of an answer, at most; None: the benchmark's.
        temperature: of answers that are drawn; None: greedily.
        limit: items that were run; None: all.
        fields: of the benchmark, as split and template.
        flows: "image -> last" and others, of a flow.
        window: layers that are cut together, of a flow.
        ending: what follows each question, of a flow.
    """

    name: str
    title: str
    source: str
    kind: Kind
    data: str
    differs: tuple[str, ...]
    model: str | None = None
    bench: str | None = None
    files: str | None = None
    methods: tuple[str, ...] = ("none",)
    published: tuple[Published, ...] = ()
    claims: tuple[str, ...] = ()
    queries: str = "generated"
    stages: str = "paired"
    new_tokens: int | None = None
    temperature: float | None = None
    limit: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    flows: tuple[str, ...] = ()
    window: int = 1
    ending: str = ""


@cache
def reproductions() -> dict[str, Reproduction]:
    """All, by name."""
    return {path.stem: read_reproduction(path) for path in sorted(TABLES.glob("*.yaml"), key=lambda path: path.stem)}


def find_reproduction(name: str) -> Reproduction:
    """The one of this name; InputError for another, with the nearest names."""
    known = reproductions()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name.lower(), known, 3, 0.5)
    near = near or [other for other in known if name and name.lower() in other]
    meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."
    raise InputError(f"There is no reproduction named {name!r}; {meant}")


def read_reproduction(path: Path) -> Reproduction:
    """The table of one file. InputError for an unknown or missing field, kind, status or published row."""
    content = read_yaml(path)
    published = tuple(_published(path, entry) for entry in content.pop("published", ()))
    lists: dict[str, Any] = {
        name: tuple(content[name]) for name in ("methods", "claims", "differs", "flows") if name in content
    }
    _require_fields(path, Reproduction, content, ("name", "published"))
    found = Reproduction(**{**content, **lists, "name": path.stem, "published": published})
    if found.kind not in get_args(Kind):
        raise InputError(f"{path} is of the kind {found.kind!r}; it takes {', '.join(get_args(Kind))}.")
    for entry in published:
        if entry.method not in (*found.methods, *found.flows):
            raise InputError(f"{path} has published figures of {entry.method!r}, which it does not run.")
    return found


def _published(path: Path, entry: Any) -> Published:
    _require_fields(path, Published, entry, ())
    found = Published(**entry)
    if found.status not in get_args(Status):
        raise InputError(f"{path} has a status {found.status!r}; it takes {', '.join(get_args(Status))}.")
    if found.row is not None and found.row not in PUBLISHED:
        raise InputError(f"{path} names the row {found.row!r}, which is not published.")
    return found


def _require_fields(path: Path, kind: type[Any], content: Mapping[str, Any], given: tuple[str, ...]) -> None:
    known = {each.name for each in fields(kind)}
    wrong = sorted(set(content) - known)
    if wrong:
        raise InputError(f"{path} has a field {wrong[0]!r}; it takes {', '.join(sorted(known))}.")
    needed = ("title", "source", "kind", "data", "differs") if kind is Reproduction else ("method", "source", "status")
    missing = [name for name in needed if name not in content and name not in given]
    if missing:
        raise InputError(f"{path} lacks {missing[0]!r}.")
