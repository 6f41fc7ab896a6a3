"""Runs the tests that hold each family of models to what is promised, and writes what they said into docs/families.md.

python docs/fill_families.py
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

SHOWN = (
    "layout",
    "measure",
    "sinks",
    "impact",
    "grounding",
    "var",
    "pai",
    "vcd",
    "vaf",
    "adaptvis",
    "fastv",
    "fastervlm",
)
"""Columns. Controls go as the method that they control."""

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


def table(recorder: Recorder) -> str:
    """A row a family, in the order of tests/families.py."""
    from families import EVERY, FAMILIES

    kinds = {1: "text", 2: "image", 3: "video", 4: "audio"}
    lines = ["| family | class in Transformers | input | " + " | ".join(SHOWN) + " |", "|---" * (len(SHOWN) + 3) + "|"]
    for family in EVERY:
        name = f"**{family.name}**" if family in FAMILIES else family.name
        cells = [recorder.cell(family.name, column) for column in SHOWN]
        lines.append(
            f"| {name} | {type(family.model()).__name__} | {kinds[family.modality]} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def main() -> int:
    """Runs the tests and writes the page; the exit code is that of pytest."""
    import pytest
    import torch
    import transformers

    os.chdir(ROOT)
    recorder = Recorder()
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *TESTS], plugins=[recorder])
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}."
    PAGE.write_text(f"{before}{BEGIN}\n{versions}\n\n{table(recorder)}\n{END}{after}", encoding="utf-8")
    return int(code)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    sys.exit(main())
