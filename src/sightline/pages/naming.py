"""What series and runs are called on a page: by what differs between them, never by a place on somebody's disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.pages.reading import RunFolder

_PATH = re.compile(
    r"(?:file:/{1,3}|(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|\\\\|/|~/))(?:[^\s/\\'\"<>|]+[/\\])+([^\s/\\'\"<>|,;:()]+)"
)
"""A path from the root of a disk, of a share or from a home, with at least one folder, inside a sentence."""

WORDS = ("prompt", "truth", "answer", "maps", "images")
"""Fields of a page's samples that are data, and stand as they are."""

FIRST = ("data", "bench", "method", "mode", "queries", "limit", "new_tokens", "sinks", "seed")
"""Settings by which runs are best known apart, the first before the others."""


LONGEST = 60
"""Letters of a setting inside a name."""


def display_name(model: str, method: str | None = None) -> str:
    """A model under a method: a folder by its last name, and the method where there is one."""
    name = last_name(model)
    return name if method in (None, "none", "") else f"{name} · {method}"


def last_name(text: str) -> str:
    """A path by its last part; any other text as it is."""
    is_path = text.startswith(("/", "./", "../", "~")) or re.match(r"[A-Za-z]:[\\/]", text)
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1] or text if is_path else text


def without_places(value: Any, known: dict[str, str] | None = None) -> Any:
    """A JSON value whose absolute paths are cut down to their last names, also in names of fields and within sentences.

    known: what each text became; of texts without spaces, two that would become the same are numbered. `WORDS` stay as
    they are.
    """
    known = {} if known is None else known
    if isinstance(value, str):
        return known[value] if value in known else _shortened(value, known)
    if isinstance(value, Mapping):
        return {
            without_places(name, known): each if name in WORDS else without_places(each, known)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_places(each, known) for each in value]
    return value


def _shortened(text: str, known: dict[str, str]) -> str:
    is_path = text.startswith(("/", "~/")) and " " not in text
    found = wanted = last_name(text) if is_path else _PATH.sub(r"\1", text)
    number = 1
    while found != text and " " not in text and found in known.values():
        number += 1
        found = f"{wanted} ({number})"
    known[text] = found
    return found


def distinct_names(names: Sequence[str], runs: Sequence[RunFolder]) -> list[str]:
    """Each series' name; of those that are called alike, with the settings in which their runs differ.

    names, runs: of each series. Where no setting differs, the run folder's name stands beside, then a number.
    """
    found = list(names)
    for name in dict.fromkeys(names):
        places = [place for place, other in enumerate(names) if other == name]
        if len(places) > 1:
            for place, note in zip(places, _differences([runs[place] for place in places]), strict=True):
                found[place] = f"{name} ({note})"
    return found


def _differences(runs: Sequence[RunFolder]) -> list[str]:
    """A note for each run, all of them different."""
    known = [_flat(dict(run.info) | dict(run.settings)) for run in runs]
    keys = [*FIRST, *sorted({key for each in known for key in each} - set(FIRST))]
    differing = [key for key in keys if is_telling(key) and len({repr(each.get(key)) for each in known}) > 1]
    for count in range(1, len(differing) + 1):
        notes = [", ".join(_written(key, each.get(key)) for key in differing[:count]) for each in known]
        if len(set(notes)) == len(notes):
            return notes
    notes = [run.name for run in runs]
    return notes if len(set(notes)) == len(notes) else [f"{note}, {place}" for place, note in enumerate(notes, 1)]


def is_telling(key: str) -> bool:
    """Whether a setting says something to a person: digests of a model's content do not."""
    return not key.startswith(("content of ", "decoding of ")) and not key.endswith("sha256")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of a job's own among them, which stand together under one name."""
    prompts = settings.get("prompts")
    first = prompts[0] if isinstance(prompts, list | tuple) and prompts and isinstance(prompts[0], Mapping) else {}
    inner = settings.get("settings", first.get("settings"))
    rest = {name: value for name, value in settings.items() if not _is_nested(value)}
    if not isinstance(inner, Mapping):
        return rest
    found = {**rest, **inner}
    if found.get("mode") == "lens" and found.get("target", "predicted") != "predicted":
        found["mode"] = f"lens: {found.pop('target')}"
    return found


def _is_nested(value: Any) -> bool:
    """Whether a value is too much to be part of a name."""
    return isinstance(value, Mapping) or (isinstance(value, list | tuple) and any(map(_is_nested, value)))


def _written(key: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        value = "+".join(map(str, value))
    text = last_name(str(value)) if value is not None else "none"
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return (
        text if key in ("data", "bench", "method", "mode") and value is not None else f"{key.replace('_', ' ')} {text}"
    )


def settings_table(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """A row a setting: {"name", "values", "differs"}, those that differ first; a value a run, None without one."""
    known = [
        {"command": f"sightline {run.command}"}
        | {name: value for name, value in {**run.settings, **run.info}.items() if value not in (None, [], {}, ())}
        | ({"started": run.started} if run.started else {})
        | (
            {"versions": ", ".join(f"{name} {version}" for name, version in run.versions.items())}
            if run.versions
            else {}
        )
        for run in runs
    ]
    rows = []
    for name in dict.fromkeys(key for each in known for key in each):
        values = [None if name not in each else _cell(each[name]) for each in known]
        rows.append({"name": name, "values": values, "differs": len(set(values)) > 1})
    return sorted(rows, key=lambda row: not row["differs"])


def _cell(value: Any) -> str:
    value = without_places(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
