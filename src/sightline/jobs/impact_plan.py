"""What an impact is set by: prompts, each with its study, and one model or two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.picture_names import picture_digest
from sightline.data.sample import Sample
from sightline.data.sources import samples_digest
from sightline.errors import InputError
from sightline.files.digest import digest_of
from sightline.jobs.impact_config import Request
from sightline.jobs.impact_settings import ImpactSettings
from sightline.jobs.models import ModelSource

LISTS = ("heads.json", "localization.json", "registers.json")
"""Files of names beside maps, where there are any: a picture without outliers names no neurons."""


@dataclass(frozen=True)
class ImpactPlan:
    """What is done. compare: another model on the same prompts. is_single: one prompt, whose error is the job's."""

    model: ModelSource
    requests: tuple[Request, ...]
    settings: ImpactSettings
    compare: ModelSource | None = None
    is_single: bool = False

    def __post_init__(self) -> None:
        if self.compare is None:
            return
        if any(request.study.mode not in ("local", "causal") for request in self.requests):
            raise InputError("Models are compared in the modes local and causal: give one of them with --compare.")
        if any(request.study.unit == "head" for request in self.requests):
            raise InputError("Heads of two models have no partners: leave --compare out, or the unit head.")
        if any(request.study.new_tokens is not None for request in self.requests):
            raise InputError(
                "Models are compared on a prompt, not over an answer: leave --new-tokens out with --compare."
            )

    def of_run(self) -> dict[str, Any]:
        """All that decides the results."""
        shared = {
            "model": self.model.name,
            "compare": None if self.compare is None else self.compare.name,
            "layout": None if self.settings.layout is None else digest_of(self.settings.layout, "layout file"),
            **self.settings.of_model(),
        }
        if self.is_single:
            return shared | self.requests[0].settings()
        return shared | {"prompts": [each.settings() for each in self.requests]}

    def place_of(self, request: Request, folder: Path = Path()) -> Path:
        """Where a prompt's files stand: the run folder itself for a single one, else a folder of its own in it."""
        if self.is_single:
            return folder
        number = [each.id for each in self.requests].index(request.id) + 1
        name = re.sub(r"[^\w.-]+", "_", request.id)[:60].strip("._")
        return folder / "prompts" / (f"{number:03d}-{name}" if name else f"{number:03d}")

    def files(self, folder: Path) -> str:
        """The files that are in the run folder, in words."""
        own = ("impact.json", "impact.csv", "impact_a.csv", "impact_b.csv", *LISTS)
        places = [self.place_of(each, folder) for each in self.requests]
        files = [name for name in own if any((place / name).is_file() for place in places)]
        files += ["figures/"] if any((place / "figures").is_dir() for place in places) else []
        if self.is_single:
            return ", ".join(files)
        beside = [name for name in (*LISTS, "samples.jsonl", "summary.json") if (folder / name).is_file()]
        return ", ".join([f"prompts/*/ ({', '.join(files)})", *beside])


def requests_of(samples: Sequence[Any], study: Any) -> tuple[Request, ...]:
    """A request a sample, all of one study."""
    return tuple(Request(sample, study, tuple(map(_digest, sample.images))) for sample in samples)


def _digest(image: Any) -> str:
    """Of a file its content; of a picture in memory what it holds."""
    if isinstance(image, str | Path):
        return picture_digest(image)
    return samples_digest([Sample("image", (image,))])
