"""The questions of an evaluation's samples: its benchmark's items, found again, and what each answer counts for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.benchmarks.base import Item, find_bench
from sightline.errors import SightlineError
from sightline.pages.reading import RunFolder


@dataclass(frozen=True)
class RunItems:
    """The benchmark and its items by id; a sentence in note where they could not be found."""

    bench: Any = None
    items: Mapping[str, Any] | None = None
    note: str = ""

    def right(self, name: str, response: str, parser: str) -> bool | None:
        """Whether an answer counts as right; None where the item is not known."""
        item = (self.items or {}).get(name)
        return None if item is None else bool(self.bench.verdict(item, response, parser).right)


def items_of_run(run: RunFolder) -> RunItems:
    """The items of a run of `eval`, from where it had them: a path, or drawn anew. Never from a network."""
    name, path = str(run.settings.get("bench", "")), run.info.get("path")
    if path is None and not name.startswith("shapes"):
        return RunItems(note=f"The items of {name} are not on this machine's disk, so answers stand without pictures.")
    try:
        bench = find_bench(name, **_fields(run.info.get("fields")))
        place = None if path is None else Path(str(path))
        seed = int(run.settings.get("seed") or 0)
        loaded = bench.load(place, seed=seed, limit=run.info.get("limit"))
    except (SightlineError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        return RunItems(
            note=f"The items of {name} could not be found again ({reason}), so answers stand without pictures."
        )
    return RunItems(bench, {entry.id: entry for entry in loaded if isinstance(entry, Item)})


def _fields(given: Any) -> dict[str, Any]:
    fields = dict(given) if isinstance(given, dict) else {}
    return {name: Path(value) if name in ("synonyms", "image_list") else value for name, value in fields.items()}
