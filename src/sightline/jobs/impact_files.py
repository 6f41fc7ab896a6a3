"""What `impact` finds of one prompt, as a document, a line, and the files of its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.jobs.impact_config import Request
from sightline.knockout.head_maps import agreement, head_list, is_of_heads, mean_of, ranked_heads
from sightline.knockout.readings import locating_list
from sightline.knockout.registers import is_of_registers, neuron_list
from sightline.knockout.result import ImpactMap
from sightline.pages.compare_figures import compare_figures
from sightline.pages.impact_figures import impact_figures, parts_figure
from sightline.pages.pictures import keep_thumbnails

if TYPE_CHECKING:
    from sightline.knockout.compare import MapComparison
    from sightline.models.vlm import VLM

JSON_FILE, CSV_FILE = "impact.json", "impact.csv"

TOP = 5
"""Sources that a prompt is summed up by."""


@dataclass(frozen=True)
class PromptImpact:
    """One prompt's maps, one a token of the answer where that is followed; with `compare` a map of each model.

    document  as the command prints it
    parts     the image's parts cut from every row, where they were
    """

    request: Request
    maps: tuple[ImpactMap, ...]
    document: dict[str, Any] = field(repr=False)
    parts: ImpactMap | None = None
    comparison: MapComparison | None = None

    def line(self, folder: Path) -> dict[str, Any]:
        """What the run's line holds of it; folder: where its files stand in the run folder."""
        first = self.maps[0]
        line = {
            "folder": str(folder),
            "prompt": self.request.sample.prompt,
            "mode": first.mode,
            "row": first.row,
            "sources": len(first.tokens),
            "answers": [_answer(each) for each in self.maps[: 1 if self.comparison is not None else None]],
            "prob": first.baseline.get("prob"),
            "top": _top(first),
        }
        if is_of_heads(first):
            line["agreement"] = agreement(first)
        if self.comparison is None:
            return line
        found = self.comparison
        return line | {"aligned": len(found.pairs), "unaligned": [len(found.only_a), len(found.only_b)]}

    def write(self, folder: Path) -> None:
        """The prompt's files; its document is written last."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.comparison is None:
            self._write_maps(folder)
        else:
            compare_figures(self.comparison, folder / "figures")
            for name, found in zip("ab", self.maps, strict=True):
                found.to_csv(folder / f"impact_{name}.csv")
        write_atomically(folder / JSON_FILE, json_text(self.document))

    def _write_maps(self, folder: Path) -> None:
        pictures = self.request.sample.load_images()
        for number, each in enumerate(self.maps):
            stem = f"token{number:02d}_" if self.request.study.new_tokens is not None else ""
            impact_figures(each, folder / "figures", pictures, stem)
        keep_thumbnails(pictures, folder)
        _write_table(folder / CSV_FILE, self.maps, self.request)
        for name, listed in lists_of([self.maps[0]]).items():
            write_atomically(folder / f"{name}.json", json_text(listed))
        if self.parts is not None:
            parts_figure(self.parts, folder / "figures", pictures)


def _answer(found: ImpactMap) -> str | None:
    """What the row predicts, whichever token is followed."""
    text: str | None = found.baseline.get("predicted_text", found.baseline.get("text"))
    return text


def lists_of(maps: Sequence[ImpactMap]) -> dict[str, Any]:
    """What the maps of prompts name together: {"heads": ...}, {"registers": ...}, {"localization": ...}, or nothing.

    Each is a document, and a file of that name beside the map.
    """
    if maps and all(found.mode == "locate" and "first" in found.baseline for found in maps):
        return {"localization": locating_list(maps)}
    if maps and all(map(is_of_heads, maps)):
        return {"heads": head_list(mean_of(maps), len(maps))}
    naming = [found for found in maps if is_of_registers(found)]
    return {"registers": neuron_list(naming)} if naming else {}


def maps_in(folder: Path) -> tuple[ImpactMap, ...]:
    """The maps of a prompt's folder; none where its document is gone or damaged."""
    try:
        document = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        parts = [document["a"], document["b"]] if "aligned" in document else document.get("new_tokens", [document])
        return tuple(map(ImpactMap.from_dict, parts))
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return ()


def _top(found: ImpactMap) -> list[dict[str, Any]]:
    """What a prompt is summed up by: the sources, or the heads, that do most."""
    if is_of_heads(found):
        most = sorted(ranked_heads(found), key=lambda entry: -abs(entry["logprob"]))[:TOP]
        return [{"text": entry["head"], "effect": entry["logprob"]} for entry in most]
    return [
        {"position": source.position, "text": source.text, "row": source.row, "col": source.col, "effect": effect}
        for source, effect in found.top(found.layers, TOP)
    ]


def _write_table(path: Path, found: Sequence[ImpactMap], request: Request) -> None:
    """One CSV; over an answer with a first column that counts its tokens."""
    if request.study.new_tokens is None:
        found[0].to_csv(path)
        return
    import pandas as pd

    frames = [each.table().assign(token=number) for number, each in enumerate(found)]
    table = pd.concat(frames)
    columns = ["token", *(name for name in table.columns if name != "token")]
    table[columns].to_csv(path, index=False, encoding="utf-8")


def document_of(request: Request, found: Sequence[ImpactMap], vlm: VLM) -> dict[str, Any]:
    """The map's document; over an answer {"model", "mode", "text", "new_tokens": [documents]}."""
    if request.study.new_tokens is None:
        return found[0].to_dict() | lists_of(found[:1]) | {"prompt": request.sample.prompt}
    tokens = [each.baseline.get("predicted", each.baseline["token"]) for each in found]
    return {
        "model": vlm.name,
        "mode": request.study.mode,
        "prompt": request.sample.prompt,
        "text": vlm.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
        "new_tokens": [each.to_dict() for each in found],
    }
