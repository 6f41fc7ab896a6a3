"""A page's samples in pieces: what the list needs at once, and what is read when a sample is looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sightline.files.json import plain

PIECE_BYTES = 300_000
"""A piece is closed once it is so long: parsing it takes some milliseconds."""


def split(samples: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """(light samples, pieces): a piece is a JSON list of [images, maps by variant] of samples that follow each other.

    A light sample has "piece" and "place" in it, the sizes of its images and whether a variant has maps.
    """
    light: list[dict[str, Any]] = []
    pieces: list[str] = []
    waiting: list[str] = []
    for sample in samples:
        maps = [variant.get("maps") for variant in sample["variants"]]
        light.append(
            {name: sample[name] for name in ("run", "id", "prompt", "truth")}
            | {
                "piece": len(pieces),
                "place": len(waiting),
                "sizes": [[image["width"], image["height"]] for image in sample["images"]],
                "variants": [_light(variant) for variant in sample["variants"]],
            }
            | ({} if sample["prompt"] else {"text": _prompt(maps)})
        )
        waiting.append(script_json([sample["images"], maps]))
        if sum(map(len, waiting)) > PIECE_BYTES:
            pieces.append(f"[{','.join(waiting)}]")
            waiting = []
    if waiting:
        pieces.append(f"[{','.join(waiting)}]")
    return light, pieces


def _light(variant: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in variant.items() if name != "maps"} | {"hasMaps": "maps" in variant}


def _prompt(maps: Sequence[Mapping[str, Any] | None]) -> str:
    """The prompt's words where no question is known."""
    known = next((each for each in maps if each), None)
    words = known["prompt"] if known else []
    return "".join((" " if place and not joined else "") + word for place, (word, joined) in enumerate(words))


def script_json(document: Any) -> str:
    """JSON that no HTML parser can take for markup, in ASCII, whatever words are in it."""
    text = json.dumps(plain(document), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
