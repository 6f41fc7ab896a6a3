"""Draws the gallery: every figure of docs/gallery.md by the line that stands beside it there.

python docs/make_gallery.py            # writes docs/images/gallery/*.png and docs/gallery.md
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sightline as sl

DOCS = Path(__file__).parent
IMAGES = DOCS / "images" / "gallery"

SETUP = """\
import sightline as sl

measured = sl.measure("tiny-llava-early", "shapes", limit=24, method="vcd")
scored = sl.evaluate("tiny-llava-early", ["shapes-pope"], methods=["none", "vcd", "pai", "yes_bias"], limit=240)
sinks = sl.find_sinks("tiny-sinks", "shapes", limit=12)
sample = sl.Sample(prompt="Is there a red circle in the image?", images=("docs/images/demo_scene.png",))
found = sl.impact(sl.load("tiny-llava"), sample, mode="local")"""

FIGURES = {
    "mdi_by_layer": ("How attention splits, layer by layer, with 95% intervals", "measured.plot()"),
    "aei_by_stage": ("The same in early, middle and late layers", 'measured.plot(metric="aei", by="stage")'),
    "differences": ("What each method changes, paired item by item; controls in grey", "scored.plot()"),
    "scores": ("Each method's score", 'scored.plot(metric="score")'),
    "sinks": ("Sinks by layer", "sinks.plot()"),
    "impact": ("What hiding each token does to each layer's output", "found.plot()"),
}
"""By file: what it shows, and the line that draws it after SETUP."""

TEXT = """\
# Gallery

Every figure that the results draw, each with the line that makes it, after

{setup}

`sl.save_figure(..., "figure.pdf")` writes what a line returns: a column (3.35 inches) or, with `width="page"`, a
page (6.9 inches) wide, as PDF, SVG or PNG. Fonts are embedded and words stay words; colours are those of Okabe and Ito,
lines differ in dashes and markers and bars in hatching too, so that the colour-blind and a grey printer tell them
apart. `style="screen"` is larger. `sightline report DIR --figures pdf` writes the same figures of a run folder.

{figures}

Pictures under their maps, heads and pairs of models are drawn by [`sightline impact`](impact.md) into its run folder;
everything that can be looked at by pointing is in [the report](report.md) and [the live page](app.md). This page is
made by `python docs/make_gallery.py`.
"""


def page() -> str:
    """The text of docs/gallery.md."""
    setup = "\n".join(f"    {line}".rstrip() for line in SETUP.splitlines())
    figures = [
        f"## {title}\n\n    {line}\n\n![{title}](images/gallery/{name}.png)" for name, (title, line) in FIGURES.items()
    ]
    return TEXT.format(setup=setup, figures="\n\n".join(figures))


def drawn(setup: str = SETUP) -> Iterator[tuple[str, Any]]:
    """Each figure by the name of its file."""
    names: dict[str, Any] = {}
    exec(setup, names)
    for name, (_, line) in FIGURES.items():
        yield name, eval(line, names)


if __name__ == "__main__":
    for name, figure in drawn():
        print(sl.save_figure(figure, IMAGES / f"{name}.png", dpi=160))
    (DOCS / "gallery.md").write_text(page(), encoding="utf-8")
