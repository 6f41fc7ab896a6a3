"""Runs the tests that hold each family of models to what is promised, and writes what they said into docs/families.md.

python docs/fill_families.py            all
python docs/fill_families.py FAMILY...  the rows of these alone, and the other classes

With SIGHTLINE_TEST_ALL in the environment every method is tried on every promised family.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "families.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"
OTHERS, END_OF_OTHERS = "<!-- other classes -->", "<!-- end of other classes -->"

TESTS = {
    "tests/test_anatomy.py": "layout",
    "tests/test_layout.py": "layout",
    "tests/attention/test_exact.py": "measure",
    "tests/dominance/test_dominance.py": "measure",
    "tests/sinks/test_find.py": "sinks",
    "tests/knockout/test_causal.py": "impact",
    "tests/grounding/test_scores.py": "grounding",
    "tests/methods/test_matrix.py": "",
}
"""Test files and the column that they speak for; "" where a test names its method."""

READ = ("layout", "measure", "sinks", "impact", "grounding")
"""Columns of the first table; those of the second are the methods."""

YES, NO, REFUSED, UNTRIED = "yes", "**fails**", "refused", ""


class Recorder:
    """A pytest plugin: by family and column the outcomes of the tests that name a family."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._cells: dict[str, tuple[str, str, bool]] = {}

    def pytest_itemcollected(self, item: Any) -> None:
        params = getattr(getattr(item, "callspec", None), "params", {})
        family = params.get("family")
        column = TESTS.get(item.location[0]) or params.get("name")
        if family is not None and column is not None:
            is_refusal = "refus" in item.originalname
            self._cells[item.nodeid] = (getattr(family, "name", family), column, is_refusal)

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.nodeid not in self._cells or not (report.when == "call" or report.failed):
            return
        family, column, is_refusal = self._cells[report.nodeid]
        good = REFUSED if is_refusal else YES
        self.outcomes[family, column].add(NO if report.failed else good if report.passed else UNTRIED)

    def cell(self, family: str, column: str) -> str:
        """The worst of its tests; what is skipped says nothing."""
        found = self.outcomes.get((family, column), set())
        return next((state for state in (NO, REFUSED, YES) if state in found), UNTRIED)


def tables(recorder: Recorder, kept: dict[str, dict[str, str]]) -> str:
    """What is read of every family, and the methods on promised ones; a row a family in the order of tests/families.py.

    kept: rows that stay as they are, by the first column's name and the family's.
    """
    from families import EVERY, FAMILIES
    from support.cells import NAMES

    kinds = {1: "text", 2: "image", 3: "video", 4: "audio"}
    lines = [_row("family", "class in Transformers", "input", *READ), "|---" * (len(READ) + 3) + "|"]
    for family in EVERY:
        name = f"**{family.name}**" if family in FAMILIES else family.name
        cells = [recorder.cell(family.name, column) for column in READ]
        row = kept["family"].get(family.name)
        lines.append(row or _row(name, type(family.model()).__name__, kinds[family.modality], *cells))
    lines += ["", _row("methods on", *NAMES), "|---" * (len(NAMES) + 1) + "|"]
    for family in FAMILIES:
        cells = [recorder.cell(family.name, column) for column in NAMES]
        lines.append(kept["methods on"].get(family.name) or _row(family.name, *cells))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def rows_of(page: str) -> dict[str, dict[str, str]]:
    """The rows of both tables, by the name of their first column and the family."""
    found: dict[str, dict[str, str]] = {"family": {}, "methods on": {}}
    head = "family"
    for line in page.partition(BEGIN)[2].partition(END)[0].splitlines():
        name = line.split("|")[1].strip(" *") if line.startswith("| ") else ""
        if name in found:
            head = name
        elif name:
            found[head][name] = line
    return found


def others() -> str:
    """The classes that are no family of the tests, and what comes of each."""
    from test_other_classes import table

    return table()


def filled(page: str, begin: str, end: str, content: str) -> str:
    """The page with something else between two marks."""
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def main(names: list[str]) -> int:
    """Runs the tests and writes the page; the exit code is that of pytest."""
    import pytest
    import torch
    import transformers

    os.chdir(ROOT)
    recorder = Recorder()
    chosen = ["-k", " or ".join(names)] if names else []
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen, *TESTS], plugins=[recorder])
    page = PAGE.read_text(encoding="utf-8")
    kept = {
        head: {name: row for name, row in rows.items() if names and name not in names}
        for head, rows in rows_of(page).items()
    }
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}."
    if kept["family"]:
        versions = page.partition(BEGIN)[2].strip().splitlines()[0]
    page = filled(page, BEGIN, END, f"{versions}\n\n{tables(recorder, kept)}")
    PAGE.write_text(page, encoding="utf-8")  # which says what is a family
    PAGE.write_text(filled(page, OTHERS, END_OF_OTHERS, others()), encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    sys.exit(main(sys.argv[1:]))
