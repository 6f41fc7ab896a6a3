"""What a run folder is of, as run.json has it: the command, its settings, what else is worth knowing."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from sightline.errors import InputError
from sightline.files.json import read_object

RUN_FILE = "run.json"

LONGEST = 200
"""Letters of what differs that an error shows; of more it gives the name alone."""


def described(folder: Path) -> dict[str, Any]:
    """run.json: {"command": text, "settings": {}, "info": {}, "versions": {}, "started": text}.

    Raises:
        InputError: where it cannot be read or holds something else.
    """
    found = read_object(folder / RUN_FILE) or {}
    about = {"info": {}, "versions": {}, "started": "", **found}
    kinds = {"command": str, "settings": dict, "info": dict, "versions": dict, "started": str}
    if any(not isinstance(about.get(name), kind) for name, kind in kinds.items()):
        raise InputError(f"{folder / RUN_FILE} cannot be read as a run's description: the folder is damaged.")
    return about


def refuse_difference(folder: Path, wanted: Mapping[str, Any]) -> None:
    """InputError where the folder holds a run of another command, or of other settings, which it names."""
    known = described(folder)
    refuse_command(folder, known["command"], wanted["command"])
    for name, value in wanted["settings"].items():
        if known["settings"].get(name) != value:
            raise difference(folder, name, known["settings"].get(name), value)


def refuse_command(folder: Path, known: str, wanted: str) -> None:
    """InputError where they differ."""
    if known != wanted:
        raise InputError(f"{folder} holds a run of `{known}`, not of `{wanted}`: give another folder.")


def difference(folder: Path, name: str, before: Any, now: Any) -> InputError:
    """Names what differs alone: of settings that hold settings, the first that is another one now."""
    while isinstance(before, Mapping) and isinstance(now, Mapping):
        name = next(key for key in (*now, *before) if key not in now or key not in before or now[key] != before[key])
        before, now = before.get(name), now.get(name)
    words = f"{name} = {_shown(before)}, not {_shown(now)}"
    return InputError(
        f"{folder} holds a run with {words if len(words) <= LONGEST else f'other {name}'}: "
        f"give the same {name} to continue it, or another folder."
    )


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide numbers; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in ("sightline", "torch", "transformers", "tokenizers", "pillow", "numpy", "bitsandbytes"):
        try:
            found[package] = metadata.version("sightline-vlm" if package == "sightline" else package)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time, with its zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
