"""Over the prompts of a run: heads by their mean effects, those that look at one place, or register neurons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.files.json import json_text, write_atomically
from sightline.jobs.impact_files import JSON_FILE, PromptImpact, lists_of
from sightline.knockout.result import ImpactMap

if TYPE_CHECKING:
    from sightline.jobs.impact_plan import ImpactPlan


def lists_over_prompts(plan: ImpactPlan, folder: Path | None, made: Mapping[str, PromptImpact]) -> dict[str, Any]:
    """What the prompts name together, see `lists_of`, each written to the run folder as well.

    Prompts that failed are left out, and so are those whose document is not there any more.
    """
    studies = [request.study for request in plan.requests]
    kinds = {each.mode if each.unit != "head" else "head" for each in studies}
    if len(kinds) != 1 or not kinds <= {"head", "registers", "locate"}:
        return {}
    found = lists_of([one for each in plan.requests if (one := _map_of(plan, each, folder, made)) is not None])
    if folder is not None and not plan.is_single:
        for name, listed in found.items():
            write_atomically(folder / f"{name}.json", json_text(listed))
    return found


def _map_of(plan: ImpactPlan, request: Any, folder: Path | None, made: Mapping[str, PromptImpact]) -> ImpactMap | None:
    if request.id in made:
        return made[request.id].maps[0]
    if folder is None:
        return None
    try:
        return ImpactMap.from_dict(json.loads((plan.place_of(request, folder) / JSON_FILE).read_text("utf-8")))
    except (OSError, ValueError, InputError):
        return None
