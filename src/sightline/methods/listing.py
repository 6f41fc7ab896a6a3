"""What `sightline list methods` shows, kept beside the methods so that listing them imports none of them, nor torch.

    python -m sightline.methods.listing      # writes listing.json anew, after a change of any method

The file carries the digest of the methods' source: once a method is another, they are imported and read again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from pathlib import Path
from typing import Any

from sightline.files.json import json_text, plain, read_object, write_atomically
from sightline.methods.base import METHODS, Method

FILE = Path(__file__).with_name("listing.json")


def listed_methods() -> list[dict[str, Any]]:
    """{"name", "about", "fields": [{"name", "default", "help"}]} of every method, by name."""
    kept = read_object(FILE) or {}
    own = kept["methods"] if kept.get("digest") == source_digest() else [entry_of(name) for name in METHODS.homes]
    others = [entry_of(name) for name in METHODS.names() if name not in METHODS.homes]
    return sorted([*own, *others], key=lambda entry: str(entry["name"]))


def entry_of(name: str) -> dict[str, Any]:
    """What is shown of one method."""
    kind: type[Method] = METHODS[name]
    fields: list[dict[str, Any]] = [
        {
            "name": field.name,
            "default": None if field.default is dataclasses.MISSING else field.default,
            "help": field.metadata.get("help", ""),
        }
        for field in dataclasses.fields(kind)
    ]
    found: dict[str, Any] = plain(
        {"name": name, "about": (inspect.getdoc(kind) or "").split("\n")[0], "fields": fields}
    )
    return found


def source_digest() -> str:
    """Of the source of all methods."""
    whole = hashlib.sha256()
    for path in sorted(FILE.parent.rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()


if __name__ == "__main__":
    entries = [entry_of(name) for name in sorted(METHODS.homes)]
    write_atomically(FILE, json_text({"digest": source_digest(), "methods": entries}, indent=1) + "\n")
