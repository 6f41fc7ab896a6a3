"""Writes what `sightline demo` prints, and its pictures, into the README and docs/tour.md: they show what was measured.

python docs/fill_readme.py

The picture of the report needs Chromium and Playwright for Python; without them the one that is there stays.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
README, TOUR = ROOT / "README.md", ROOT / "docs" / "tour.md"
WIDTH = 118

FIGURES = {
    "scene.png": "demo_scene.png",
    "measure/figures/mdi_by_layer.png": "mdi_by_layer.png",
    "impact/figures/overlay.png": "demo_impact.png",
}
"""What the demo leaves, and its name among the images of the docs."""

STEPS = ("measure", "reliance", "sinks", "eval", "impact", "grounding", "report")
"""Marks in the tour, in the order of the demo."""


def main() -> None:
    """Runs the demo in a folder of its own and replaces what stands between the marks."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sightline", "demo"]
        shown = subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding="utf-8").stdout
        run = Path(folder) / "demo-run"
        for figure, name in FIGURES.items():
            shutil.copy(run / figure, IMAGES / name)
        _photograph(run / "report.html", IMAGES / "demo_report.png")
    sections = steps(shown)
    if len(sections) != len(STEPS):
        raise SystemExit(f"The demo has {len(sections)} steps and the tour {len(STEPS)}.")
    _fill(README, "demo", block("\n\n".join(sections)))
    for name, section in zip(STEPS, sections, strict=True):
        _fill(TOUR, name, block(section.split("\n", 1)[1]))


def steps(shown: str) -> list[str]:
    """The steps of a demo's output, without what it says at its end."""
    text = shown.split("\n" + shown.strip().splitlines()[-2])[0]
    return [part.rstrip() for part in re.split(r"\n(?=\d  )", "\n" + text.strip()) if part.strip()]


def block(text: str) -> str:
    """A code block of lines that fit on a page."""
    lines: list[str] = []
    for line in text.splitlines():
        is_command = line.startswith("   sightline ")
        indent = "       " if is_command else "   "
        wrapped = textwrap.wrap(line, WIDTH - 2, subsequent_indent=indent, break_on_hyphens=False) or [""]
        lines += [f"{part} \\" for part in wrapped[:-1]] + wrapped[-1:] if is_command else wrapped
    return "```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def _fill(path: Path, mark: str, text: str) -> None:
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no {begin} ... {end}.")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _photograph(page: Path, picture: Path) -> None:
    """The upper part of the page as it opens."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("No Chromium with Playwright: the picture of the report stays as it is.", file=sys.stderr)
        return
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1180, "height": 1000})
        tab.goto(page.as_uri())
        tab.wait_for_timeout(1500)
        tab.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
