"""Sections as LaTeX: tables with the rules of booktabs, for a paper."""

from __future__ import annotations

from collections.abc import Sequence

from sightline.results.table import Section, Table

_SIGNS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
}


def escaped(text: str) -> str:
    """Text as LaTeX sets it; signs that plain LaTeX lacks are left to the document's encoding."""
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace("\n", " "))


def latex_text(sections: Sequence[Section]) -> str:
    r"""The tables among the sections, each a `table` with a caption; they need \usepackage{booktabs}."""
    return "\n\n".join(_table(section) for section in sections if isinstance(section, Table))


def _table(table: Table) -> str:
    columns = "l" + ("l" if table.is_prose else "r") * (len(table.columns) - 1)
    lines = [_row(table.columns), r"\midrule", *map(_row, table.rows)]
    body = "\n".join(f"    {line}" for line in lines)
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{escaped(table.title)}}}\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n{body}\n"
        "    \\bottomrule\n  \\end{tabular}\n\\end{table}"
    )


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
