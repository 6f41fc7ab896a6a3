"""Heads over the prompts of a run: their mean effects, as a list that a method takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.jobs.impact_files import HEADS_FILE, JSON_FILE, PromptImpact
from sightline.knockout.head_maps import head_list, is_of_heads, mean_of
from sightline.knockout.result import ImpactMap

if TYPE_CHECKING:
    from sightline.jobs.impact_plan import ImpactPlan


def heads_over_prompts(plan: ImpactPlan, folder: Path | None, made: Mapping[str, PromptImpact]) -> dict[str, Any]:
    """{"heads": the document of heads.json, which is written as well}; {} where the prompts are of other units.

    Prompts that failed are left out, and so are those whose document is not there any more.
    """
    if any(request.study.unit != "head" for request in plan.requests):
        return {}
    maps = [found for request in plan.requests if (found := _map_of(plan, request, folder, made)) is not None]
    if not maps:
        return {}
    worst = head_list(mean_of(maps), len(maps))
    if folder is not None and not plan.is_single:
        write_atomically(folder / HEADS_FILE, json_text(worst))
    return {"heads": worst}


def _map_of(plan: ImpactPlan, request: Any, folder: Path | None, made: Mapping[str, PromptImpact]) -> ImpactMap | None:
    if request.id in made:
        return made[request.id].maps[0]
    if folder is None:
        return None
    try:
        found = ImpactMap.from_dict(json.loads((plan.place_of(request, folder) / JSON_FILE).read_text("utf-8")))
    except (OSError, ValueError, InputError):
        return None
    return found if is_of_heads(found) else None
