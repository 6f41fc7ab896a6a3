"""`report`: one HTML page of run folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline import jobs
from sightline.errors import InputError
from sightline.jobs.report_settings import PAGE_FILE, SHOWN
from sightline.pages.page import write_page
from sightline.pages.reading import read_runs


@dataclass(frozen=True)
class Report:
    """A page that was written. path: of the page. size: in bytes. runs: the run folders on it. figures: for a paper."""

    path: Path
    size: int
    runs: tuple[Path, ...]
    figures: tuple[Path, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The command's JSON document."""
        found = {"report": str(self.path), "bytes": self.size, "runs": list(map(str, self.runs))}
        return found | ({"figures": list(map(str, self.figures))} if self.figures else {})

    def __str__(self) -> str:
        plural = "" if len(self.runs) == 1 else "s"
        page = f"{self.path} ({self.size / 1e6:.1f} MB, {len(self.runs)} run{plural})"
        return "\n".join([page, *map(str, self.figures)])


def report(
    folders: str | Path | Sequence[str | Path],
    path: str | Path | None = None,
    *,
    samples: int = SHOWN,
    figures: str | None = None,
) -> Report:
    """Writes one HTML page of run folders, to be looked at, mailed and kept: everything is in the one file.

    Args:
        folders: what measure, find_sinks, evaluate, impact or train wrote to `out`; a folder of run folders stands for
            all of them.
        path: of the page; by default report.html in the first folder.
        samples: show so many at most.
        figures: also write figures/paper_NAME of this kind into each run folder: "pdf", "svg" or "png", as the
            results' `.plot` draws them: a column wide, fonts embedded, fit for the colour-blind and for grey printers.

    Raises:
        InputError: for a folder that holds no run, and for a page that is a folder.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    if not given:
        raise InputError("There is no run folder to report on: give at least one.")
    places = [Path(folder) for folder in given]
    page = places[0] / PAGE_FILE if path is None else Path(path)
    if page.is_dir():
        raise InputError(f"{page} is a folder: give --out the name of a file, such as {page / PAGE_FILE}.")
    runs = read_runs(places)
    write_page(runs, page, samples)
    drawn = () if figures is None else tuple(jobs.write_figures(runs, figures))
    return Report(page, page.stat().st_size, tuple(run.folder for run in runs), drawn)
