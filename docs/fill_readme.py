"""Writes what `sightline demo` prints, and its figure, into the README: it shows what the bundled model measures.

python docs/fill_readme.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- demo -->", "<!-- end of demo -->"
FIGURE = Path("docs/images/mdi_by_layer.png")


def main() -> None:
    """Runs the demo in a folder of its own and replaces the README's text between the two marks."""
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sightline", "demo"]
        shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout
        (ROOT / FIGURE).parent.mkdir(exist_ok=True)
        shutil.copy(Path(folder) / "demo-run" / "figures" / FIGURE.name, ROOT / FIGURE)
    tables = shown.split("What it was asked")[0].split("\n", 2)[2]
    printed = "\n".join(line.rstrip() for line in tables.strip().splitlines())
    text = f"```text\n{printed}\n```\n\n![MDI by layer]({FIGURE})"
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
