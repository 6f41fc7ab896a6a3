"""`train` documents as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sightline.results.table import Section, Table
from sightline.text import number


def sections(document: Mapping[str, Any]) -> list[Section]:
    """The losses at the beginning and at the end, the evaluations before and after, and what to do next."""
    title = f"{document['model']} on {document['data']}: {document['steps']} steps"
    rows = [(name, number(of["first"], 4), number(of["last"], 4)) for name, of in document["losses"].items()]
    found: list[Section] = [Table(title, ("term", "first tenth", "last tenth"), rows)]
    before, after = (document["evaluation"][name] for name in ("before", "after"))
    if before and after:
        names = [name for name in after if name != "step"]
        figures = [(name, number(before.get(name), 3), number(after[name], 3)) for name in names]
        found.append(Table("Evaluation", ("figure", "before", "after"), figures))
    folder = document["folder"]
    return [*found, f"{folder}: the trained model. Next: sightline eval {folder} --bench shapes-chair"]
