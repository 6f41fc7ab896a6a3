"""The table of families is of the families and methods that the tests run now."""

from __future__ import annotations

import re

import pytest

from docs.pages import ROOT
from families import AUDIO, EVERY, FAMILIES, TEXT
from support.cells import BASES, CELLS, NAMES, refusal

TABLE = (ROOT / "docs" / "families.md").read_text(encoding="utf-8").partition("<!-- end of table -->")[0]
ROWS = {
    row[0].strip("* "): [cell.strip() for cell in row]
    for row in (line.strip("|").split("|") for line in TABLE.splitlines() if line.startswith("| "))
}
COLUMNS = ROWS["family"]


def test_every_family_has_its_row_in_order() -> None:
    assert list(ROWS)[1:] == [family.name for family in EVERY]
    assert [name for name in list(ROWS)[1:] if ROWS[name][0].startswith("**")] == [family.name for family in FAMILIES]


@pytest.mark.parametrize("method", sorted({*NAMES} & {*COLUMNS}))
def test_methods_run_or_are_refused_as_the_matrix_says(method: str) -> None:
    place = COLUMNS.index(method)
    for name, family in CELLS:
        if name == method:
            assert ROWS[family][place] == ("refused" if refusal(name, family) else "yes"), family


def test_methods_that_run_on_every_family_are_columns_but_for_those_of_hidden_states() -> None:
    assert {*BASES} - {"deco"} <= {*COLUMNS}


def test_what_is_read_is_read_on_every_family_and_nothing_fails() -> None:
    for family in FAMILIES:
        row = dict(zip(COLUMNS, ROWS[family.name], strict=True))
        assert {row[column] for column in ("layout", "measure", "sinks", "impact")} == {"yes"}, family.name
        assert row["grounding"] == ("" if family.modality in (TEXT, AUDIO) else "yes"), family.name
    assert not any(re.search("fails", cell) for row in ROWS.values() for cell in row)
