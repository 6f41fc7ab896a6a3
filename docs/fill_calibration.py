"""Writes what a run of `sightline calibrate` found into docs/calibration.md, and fits the prediction of reliance on it.

python docs/fill_calibration.py runs/calibrate

Beside tables and figure it leaves benchmarks/results/calibration.json, and the fit that `measure --reliance` takes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from sightline.calibration.reliance import FITTED, READING, RelianceFit
from sightline.calibration.reliance_fit import fit_reliance
from sightline.calibration.table import follow_readings
from sightline.calibration.truths import DIAL
from sightline.pages.calibration_figures import agreement_figure
from sightline.pages.tables.calibrate import sections
from sightline.pages.tables.markdown import markdown_text
from sightline.runs.records import read_records

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "calibration.md"
RESULTS = ROOT / "benchmarks" / "results" / "calibration.json"
IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Replaces what stands between the marks."""
    folder = Path(sys.argv[1])
    document = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    fit = fit_of(folder, document["models"])
    RESULTS.write_text(json.dumps({**document, "reliance": fit.to_dict()}, indent=1) + "\n", encoding="utf-8")
    FITTED.write_text(json.dumps(fit.to_dict(), indent=1) + "\n", encoding="utf-8")
    drawn = {**document, "instruments": [row for row in document["instruments"] if is_drawn(row)]}
    for path in agreement_figure(drawn, folder / "figures"):
        if path.suffix == ".png":
            with Image.open(path) as figure:
                figure.convert("RGB").quantize(32).save(IMAGES / path.name, optimize=True)
    fill("tables", markdown_text(sections(document)))
    fill("reliance", reliance_text(fit))


def is_drawn(row: dict[str, Any]) -> bool:
    """Whether the figure of the page has the row: one model a truth."""
    model, truth = row["model"], row["truth"].split()[0]
    chosen = {"reliance": "tiny-reliance-*", "follows": "tiny-reliance-*", "right": "tiny-sinks", "sinks": "tiny-sinks"}
    chosen |= {"named": "tiny-binding", "heads": "tiny-sinks", "place": "tiny-llava", "seen": "tiny-half"}
    return bool(chosen.get(truth) == model)


def fit_of(folder: Path, models: list[str]) -> RelianceFit:
    """The prediction fitted on the records of the run."""
    records = [record for record in read_records(folder) if record.result is not None]

    def read(model: str, name: str) -> dict[str, Any]:
        found = {
            record.id: dict(record.result or {}) for record in records if (record.model, record.method) == (model, name)
        }
        return dict(sorted(found.items()))

    readings = follow_readings(models, READING, read)
    others = {model: pairs for model, pairs in readings.items() if model not in DIAL}
    return fit_reliance({model: pairs for model, pairs in readings.items() if model in DIAL}, others)


def reliance_text(fit: RelianceFit) -> str:
    """Each model, predicted by a fit on all others."""
    rows = [f"| `{each.model}` | {each.truth:.0%} | {each.predicted:.0%} |" for each in fit.left_out]
    lines = ["| left out | truth | predicted |", "| --- | --- | --- |", *rows]
    parts = (("on the dial", True), ("on the others", False))
    errors = ", ".join(f"{100 * error_of(fit, is_dial):.0f} points {where}" for where, is_dial in parts)
    formula = f"share = {fit.intercept:.3f} + {fit.slope:.3f} s"
    return "\n".join([*lines, "", f"Fitted on the dial: `{formula}`. Root mean square error: {errors}.", ""])


def error_of(fit: RelianceFit, is_dial: bool) -> float:
    """Root mean square, over the models of the dial or over the others."""
    errors = [each.truth - each.predicted for each in fit.left_out if (each.model in DIAL) is is_dial]
    return (sum(error**2 for error in errors) / max(1, len(errors))) ** 0.5


def fill(mark: str, text: str) -> None:
    """Replaces what stands between a mark's two comments."""
    pattern = rf"(<!-- {mark} -->\n).*?(<!-- end {mark} -->)"
    page, count = re.subn(
        pattern, lambda found: found[1] + text + found[2], PAGE.read_text(encoding="utf-8"), flags=re.S
    )
    if count != 1:
        raise SystemExit(f"{PAGE} has {count} places for {mark}.")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
