"""sightline report: one HTML page of run folders."""

from __future__ import annotations

from pathlib import Path

import click

from sightline.cli.output import Output
from sightline.errors import InputError

EPILOG = """\b
Examples:
  sightline report runs/llava
  sightline report runs/llava runs/sinks runs/pope --out llava.html --open"""

PAGE_FILE = "report.html"


@click.command("report", epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="The page; by default report.html in the first DIR."
)
@click.option("--samples", type=click.IntRange(0), default=400, show_default=True, help="Show so many samples at most.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on standard output: the page and its size.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def command(folders: tuple[Path, ...], out: Path | None, samples: int, is_opened: bool, is_json: bool) -> None:
    """One HTML page of run folders, to be looked at, mailed and kept: everything is in the one file.

    DIR: what measure, sinks, eval, impact or train wrote with --out; several go into one page, and a folder of run
    folders stands for all of them.
    """
    from sightline.pages.page import write_page
    from sightline.pages.reading import read_runs

    output = Output(is_json)
    path = folders[0] / PAGE_FILE if out is None else out
    if path.is_dir():
        raise InputError(f"{path} is a folder: give --out the name of a file, such as {path / PAGE_FILE}.")
    with output.guarded():
        runs = read_runs(folders)
        write_page(runs, path, samples)
    size = path.stat().st_size
    output.document({"report": str(path), "bytes": size, "runs": [str(run.folder) for run in runs]})
    output.text(f"{path} ({size / 1e6:.1f} MB, {len(runs)} run{'' if len(runs) == 1 else 's'})")
    if is_opened:
        click.launch(str(path))
