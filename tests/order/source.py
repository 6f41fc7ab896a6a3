"""What breaks the order of the source today, and what is allowed to go on until it is mended.

python tests/order/source.py     # takes out of allowed.json what is mended; nothing is ever added
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sightline"
ALLOWED = Path(__file__).parent / "allowed.json"

LINES = 300
COMMAND_LINES = 80
WORDS = ("told", "tell", "tells", "said", "asked", "house", "whither")
"""Words that neither a name nor a docstring of the source holds: each has a plainer one."""

_ANY = re.compile("|".join(WORDS), re.IGNORECASE)

Found = dict[str, int]


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Every file of the source, by its path under src/sightline, and what it holds."""
    paths = sorted(SOURCE.rglob("*.py"))
    return tuple((path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


def long_files() -> Found:
    """Files of more than 300 lines, and their lines."""
    lengths = {
        path.relative_to(SOURCE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCE.rglob("*.py")
    }
    return {path: length for path, length in lengths.items() if length > LINES}


def long_commands() -> Found:
    """Files of a command of more than 80 lines, and their lines."""
    return {
        path: length
        for path, tree in trees()
        if path.startswith("cli/") and any(getattr(node, "name", "") == "command" for node in tree.body)
        if (length := len((SOURCE / path).read_text(encoding="utf-8").splitlines())) > COMMAND_LINES
    }


def shared_names() -> Found:
    """Public functions and classes that more than one package defines, and how many do."""
    homes: dict[str, set[str]] = defaultdict(set)
    for path, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].add(path.split("/")[0])
    return {name: len(packages) for name, packages in homes.items() if len(packages) > 1}


def refused_words() -> Found:
    """Files with refused words in names or docstrings, and how many."""
    return {path: count for path, tree in trees() if (count := sum(map(_words, _texts(tree))))}


def _texts(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case _:
                pass


def _words(text: str) -> int:
    if not _ANY.search(text):
        return 0
    # A name in capitals or of several words is looked at word by word.
    parts = Counter(part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text))
    return sum(parts[word] for word in WORDS)


def inner_imports() -> Found:
    """Files that import another part of Sightline inside a function, and how often; cli and __init__ may."""
    found: Counter[str] = Counter()
    for path, tree in trees():
        if path.startswith("cli/") or path.endswith("__init__.py"):
            continue
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                found[path] += sum(map(_is_ours, _inside(function)))
    return {path: count for path, count in found.items() if count}


def _inside(function: ast.AST) -> Iterator[ast.AST]:
    """What a function holds, less what functions in it hold."""
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _inside(node)


def _is_ours(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").split(".")[0] == "sightline"
    return isinstance(node, ast.Import) and any(name.name.split(".")[0] == "sightline" for name in node.names)


RULES = {
    "files over 300 lines": long_files,
    "commands over 80 lines": long_commands,
    "public names in several packages": shared_names,
    "refused words": refused_words,
    "imports of sightline inside functions": inner_imports,
}


def allowed() -> dict[str, Found]:
    """What each rule lets pass."""
    return json.loads(ALLOWED.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def shrunk(allowance: Found, found: Found) -> Found:
    """The allowance less what is mended."""
    return {key: min(count, found[key]) for key, count in sorted(allowance.items()) if key in found}


if __name__ == "__main__":
    left = {rule: shrunk(allowed()[rule], find()) for rule, find in RULES.items()}
    ALLOWED.write_text(json.dumps(left, indent=1) + "\n", encoding="utf-8")
