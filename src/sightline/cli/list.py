"""sightline list: what can be named on the command line."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import click

from sightline.cli.options import common_options
from sightline.cli.output import Output


@click.command("list", epilog="Example: sightline list methods")
@click.argument("kind", type=click.Choice(("models", "methods", "benches", "reproductions")))
@common_options
def command(is_json: bool, seed: int, kind: str) -> None:
    """The bundled models, the methods and their fields, the benchmarks, or the published tables."""
    output = Output(is_json)
    if kind == "reproductions":
        from sightline.cli.reproduce import show_list

        show_list(output)
        return
    entries = {"models": _models, "methods": _methods, "benches": _benches}[kind]()
    output.document({kind: entries})
    if not entries:
        output.text(f"No {kind} yet.")
        return
    width = max(len(entry["name"]) for entry in entries) + 2
    for entry in entries:
        output.text(f"{entry['name']:<{width}}{entry['about']}")
        for field in entry.get("fields", ()):
            default = field["default"]
            written = "+".join(map(str, default)) if isinstance(default, list) else default
            output.text(f"    {field['name']}={written}  {field['help']}")


def _models() -> list[dict[str, Any]]:
    from sightline.zoo import BUNDLED, bundled_path

    return [
        {"name": name, "about": about, "path": str(bundled_path(name))}
        for name, about in BUNDLED.items()
        if bundled_path(name).exists()
    ]


def _methods() -> list[dict[str, Any]]:
    from sightline.methods.listing import listed_methods

    return listed_methods()


def _default(field: dataclasses.Field[Any]) -> Any:
    return None if field.default is dataclasses.MISSING else field.default


def _benches() -> list[dict[str, Any]]:
    from sightline.benchmarks import benches

    bundled = {"name": "shapes", "about": "bundled scenes of coloured shapes with questions and captions (data alone)"}
    found = [
        {
            "name": name,
            "about": (inspect.getdoc(kind) or "").split("\n")[0],
            "headline": kind.headline,
            "fields": [
                {"name": field.name, "default": _default(field), "help": field.metadata.get("help", "")}
                for field in dataclasses.fields(kind)
            ],
        }
        for name, kind in benches().items()
    ]
    return [bundled, *found]
