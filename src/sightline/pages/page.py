"""One HTML file from run folders: no network, nothing beside it, the same bytes for the same folders."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from sightline.files.json import write_atomically, write_error
from sightline.pages.contents import SAMPLES, contents
from sightline.pages.pieces import script_json, split
from sightline.pages.reading import RunFolder

SCRIPTS = ("d3.min.js", "plot.umd.min.js")
OWN_SCRIPTS = (
    "page.js", "chart.js", "attention.js", "methods.js", "paint.js", "pane.js", "sample.js", "finding.js", "report.js"
)  # fmt: skip


def write_page(runs: Sequence[RunFolder], path: Path, samples: int = SAMPLES) -> Path:
    """Writes the page of these runs, showing so many samples at most. SightlineError when it cannot be written."""
    text = page(contents(runs, samples))
    kept = "the run folders are as they were"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path.parent, error, kept) from error
    write_atomically(path, text, kept)
    return path


def page(document: dict[str, Any]) -> str:
    """The page of a document of `contents`."""
    names = list(dict.fromkeys(run["name"] for run in document["runs"]))
    title = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    scripts = [_asset(name) for name in SCRIPTS] + ["\n".join(_asset(name) for name in OWN_SCRIPTS)]
    light, pieces = split(document["samples"])
    data = [("data", script_json(document | {"samples": light}))]
    data += [(f"piece-{number}", text) for number, text in enumerate(pieces)]
    filled = {
        "<!--title-->": html.escape(_clean(title)),
        "/*style*/": _asset("page.css"),
        "<!--licenses-->": html.escape(_asset("LICENSES.txt")),
        "<!--data-->": "\n".join(f'<script type="application/json" id="{name}">{text}</script>' for name, text in data),
        "<!--scripts-->": "\n".join(f"<script>{text}</script>" for text in scripts),
    }
    text = _asset("page.html")
    for mark, value in filled.items():
        before, _, after = text.partition(mark)
        text = before + value + after
    return text


def _clean(text: str) -> str:
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _asset(name: str) -> str:
    return (resources.files("sightline.pages") / "assets" / name).read_text(encoding="utf-8").strip()
