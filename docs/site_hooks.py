"""What the site adds to the pages: Sightline's version at the foot of each, and the language of each code block."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SHELL = re.compile(r"^(\$ |sightline |make |pip |python |git |curl |accelerate |torchrun |export |[A-Z_]+=)")
LIST = re.compile(r"^\s*([-*+]|\d+\.) ")


def version() -> str:
    """Sightline's, as pyproject.toml has it."""
    (found,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return str(found)


def on_config(config: Any) -> Any:
    """MkDocs's hook: names the version."""
    config.copyright = f"Sightline {version()}"
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs's hook: fences indented code blocks outside of lists, and says in what language they are."""
    lines, found, place = markdown.splitlines(), [], 0
    is_fenced = is_list = False
    while place < len(lines):
        line = lines[place]
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        is_start = line.startswith("    ") and (not place or not lines[place - 1].strip())
        if is_start and not is_fenced and not is_list:
            end = place
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            block = [each[4:] for each in lines[place:end]]
            while not block[-1].strip():
                block.pop()
            found += [f"```{language(block)}", *block, "```", ""]
            place = end
            continue
        if line.strip() and not line.startswith(" "):
            is_list = bool(LIST.match(line))
        found.append(line)
        place += 1
    return "\n".join(found)


def language(block: list[str]) -> str:
    """Of a code block: python, json, bash or text."""
    text = "\n".join(block)
    if any(SHELL.match(line) for line in block):
        return "bash"
    for name, read in (("json", json.loads), ("python", ast.parse)):
        try:
            read(text)
        except (ValueError, SyntaxError):
            continue
        return name
    return "text"
