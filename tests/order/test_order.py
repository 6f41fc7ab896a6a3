"""The order of the source, kept by machine: short files, one name for one thing, plain words, imports at the top."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from order import source
from order.source import RULES, allowed, shrunk


@pytest.mark.parametrize("rule", RULES)
def test_nothing_new_breaks_the_order(rule: str) -> None:
    allowance = allowed()[rule]
    found = RULES[rule]()
    worse = {key: count for key, count in found.items() if count > allowance.get(key, 0)}
    assert worse == {}, f"{rule}: mend these; tests/order/allowed.json takes nothing new"


def test_no_test_file_lends_to_another() -> None:
    """What several need stands in tests/support, or beside them in a file of another name."""
    tests = Path(__file__).parents[1]
    lent = re.compile(r"^\s*(?:from|import)\s+(?:\w+\.)*test_", re.MULTILINE)
    assert [path.name for path in tests.rglob("*.py") if lent.search(path.read_text(encoding="utf-8"))] == []


def test_what_is_mended_leaves_the_list() -> None:
    assert shrunk({"a": 3, "b": 2, "c": 1}, {"a": 2, "b": 5, "d": 9}) == {"a": 2, "b": 2}


def test_words_are_found_in_names_and_docstrings_and_not_in_messages() -> None:
    text = '"""What is asked."""\ndef tell_all(said: int) -> None:\n    told = 1\n    raise ValueError("as told")\n'
    assert sum(map(source._words, source._texts(ast.parse(text)))) == 4
    assert source._words("toldest, intelligible, housed") == 0


def test_imports_inside_functions_are_counted_once() -> None:
    text = "import sightline\ndef f():\n    from sightline import a\n    def g():\n        import sightline.b\n"
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert [sum(map(source._is_ours, source._inside(function))) for function in functions] == [1, 1]
