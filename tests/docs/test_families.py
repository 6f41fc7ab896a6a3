"""The table of families is of the families and methods that the tests run now."""

from __future__ import annotations

import re

import pytest

from docs.pages import ROOT
from families import AUDIO, EVERY, FAMILIES, TEXT
from support.cells import CELLS, NAMES, refusal

TABLE = (ROOT / "docs" / "families.md").read_text(encoding="utf-8").partition("<!-- end of table -->")[0]
READ, _, METHODS = TABLE.partition("| methods on ")


def rows(table: str) -> dict[str, list[str]]:
    lines = (line.strip("|").split("|") for line in table.splitlines() if line.startswith("| "))
    return {row[0].strip("* "): [cell.strip() for cell in row] for row in lines}


ROWS = rows(READ)
COLUMNS = ROWS["family"]
ON = rows("| methods on " + METHODS)


def test_every_family_has_its_row_in_order() -> None:
    assert list(ROWS)[1:] == [family.name for family in EVERY]
    assert [name for name in list(ROWS)[1:] if ROWS[name][0].startswith("**")] == [family.name for family in FAMILIES]


@pytest.mark.parametrize("method", NAMES)
def test_methods_run_or_are_refused_as_the_matrix_says(method: str) -> None:
    place = ON["methods on"].index(method)
    for name, family in CELLS:
        if name == method:
            assert ON[family][place] == ("refused" if refusal(name, family) else "yes"), family


def test_every_method_is_a_column_and_every_promised_family_a_row() -> None:
    assert ON["methods on"][1:] == NAMES
    assert list(ON)[1:] == [family.name for family in FAMILIES]


def test_what_is_read_is_read_on_every_family_and_nothing_fails() -> None:
    for family in FAMILIES:
        row = dict(zip(COLUMNS, ROWS[family.name], strict=True))
        assert {row[column] for column in ("layout", "measure", "sinks", "impact")} == {"yes"}, family.name
        assert row["grounding"] == ("" if family.modality in (TEXT, AUDIO) else "yes"), family.name
    assert not any(re.search("fails", cell) for row in ROWS.values() for cell in row)
