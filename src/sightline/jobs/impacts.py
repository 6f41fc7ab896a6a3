"""What an impact found of one prompt or of several, made or read back from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import InputError
from sightline.jobs.impact_files import JSON_FILE, PromptImpact, maps_in
from sightline.knockout.measures import MEASURES
from sightline.knockout.paired import compare_impacts, modality_sums
from sightline.knockout.result import ImpactMap
from sightline.pages.tables.impact import sections
from sightline.results.result import Result
from sightline.results.style import axes_of, look
from sightline.runs.records import Record

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from sightline.results.style import Style, Width
    from sightline.results.table import Section


@dataclass(frozen=True)
class Impacts(Result):
    """What `impact` found of one prompt or of several.

    document  as the command prints it: a single prompt's own, else a line a prompt
    summary   {"model", "prompts": [a line a prompt], "failed"}
    maps      of each prompt by its id, one a token of the answer where that is followed, two with `compare`
    prompts   what was made in this run, by id; what a folder held before is there alone
    failed    the records of prompts that could not be done
    folder    the run folder, if there is one
    """

    document: dict[str, Any]
    summary: dict[str, Any] = field(repr=False)
    maps: Mapping[str, tuple[ImpactMap, ...]] = field(repr=False)
    prompts: Mapping[str, PromptImpact] = field(default_factory=dict, repr=False)
    failed: tuple[Record, ...] = field(default=(), repr=False)
    folder: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        return self.document

    def entries(self) -> list[dict[str, Any]]:
        """As `ImpactMap.to_pandas`, of every prompt: `id` names it, `token` counts the tokens of the answer."""
        return [
            row | {"id": name, "token": number}
            for name, maps in self.maps.items()
            for number, each in enumerate(maps)
            for row in each.entries()
        ]

    def sections(self) -> list[Section]:
        """As sentences and tables."""
        return sections(self.document)

    def plot(
        self, ax: Any = None, *, metric: str | None = None, style: Style = "paper", width: Width = "column"
    ) -> Axes:
        """Of one map its figure; of several the effect by layer, summed over each modality, mean over the maps."""
        maps = [each for of in self.maps.values() for each in of]
        if len(maps) == 1:
            return maps[0].plot(ax, metric=metric, style=style, width=width)
        name = metric or maps[0].measure
        with look(style):
            axes = axes_of(ax, width)
            for kind in dict.fromkeys(source.modality for each in maps for source in each.tokens):
                sums = np.stack([modality_sums(each, name, kind) for each in maps])
                axes.plot(maps[0].layers, sums.mean(0), label=kind)
            axes.set(xlabel="layer", ylabel=MEASURES.get(name, name), title=f"{maps[0].model}, {len(maps)} maps")
            axes.legend()
            return axes

    def compare(self, other: Impacts, *, metric: str | None = None, seed: int = 0) -> pd.DataFrame:
        """Paired by prompt, layer by layer and modality by modality, with intervals and Holm over all rows."""
        return compare_impacts(self.maps, other.maps, metric, seed)


def read_impacts(folder: Path, summary: dict[str, Any], failed: tuple[Record, ...]) -> Impacts:
    """What `impact` left in a folder; InputError where a prompt's document is damaged."""
    maps = {line["id"]: maps_in(folder / line["folder"]) for line in summary["prompts"] if "folder" in line}
    lost = [name for name, of in maps.items() if not of]
    if lost:
        raise InputError(f"The document of prompt {lost[0]!r} in {folder} is gone or damaged: run the command again.")
    single = folder / JSON_FILE
    document = json.loads(single.read_text(encoding="utf-8")) if single.is_file() else summary
    return Impacts(document, summary, maps, failed=failed, folder=folder)
