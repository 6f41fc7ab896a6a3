"""Writes the tables of docs/organisms.md from the truth.json of every organism.

python recipes/organisms/page.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from common.cards import row

from sightline.zoo import BUNDLED
from sightline.zoo.organisms import organisms, truth_of

PAGE = Path(__file__).parents[2] / "docs" / "organisms.md"


def tables() -> str:
    """One section an organism: its claim, and what was verified."""
    lines = []
    for name in organisms():
        truth = truth_of(name)
        lines += [f"### {name}", "", truth["claim"], "", row("what", "by", "n", "points of 100", "95% interval")]
        lines.append(row(*["---"] * 5))
        for line in truth["verified"]:
            low, high = line["ci95"]
            lines.append(row(line["what"], line["by"], line["n"], f"{line['value']:.1f}", f"{low:.1f} to {high:.1f}"))
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Fills the page between its two marks."""
    text = PAGE.read_text(encoding="utf-8")
    listed = "\n".join(row(f"`{name}`", BUNDLED[name].removeprefix("organism: ")) for name in organisms())
    for mark, inside in (("models", f"| model | |\n| --- | --- |\n{listed}"), ("truths", tables())):
        text = re.sub(rf"(<!-- {mark} -->\n).*(<!-- end {mark} -->)", rf"\g<1>{inside}\n\g<2>", text, flags=re.S)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
