"""sightline report: one HTML page of run folders."""

from __future__ import annotations

from pathlib import Path

import click

from sightline.cli.output import Output
from sightline.jobs.report_settings import SHOWN

EPILOG = """\b
Examples:
  sightline report runs/llava
  sightline report runs/llava runs/sinks runs/pope --out llava.html --open
  sightline report runs/pope --figures pdf"""


@click.command("report", epilog=EPILOG)
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="The page; by default report.html in the first DIR."
)
@click.option("--samples", type=click.IntRange(0), default=SHOWN, show_default=True, help="So many samples at most.")
@click.option(
    "--figures",
    type=click.Choice(["pdf", "svg", "png"]),
    help="Also figures for a paper, figures/paper_NAME in each run folder: as .plot of the results draws them.",
)
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on standard output: the page and its size.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def command(
    folders: tuple[Path, ...], out: Path | None, samples: int, figures: str | None, is_opened: bool, is_json: bool
) -> None:
    """One HTML page of run folders, to be looked at, mailed and kept: everything is in the one file.

    DIR: what measure, sinks, eval, impact or train wrote with --out; several go into one page, and a folder of run
    folders stands for all of them.
    """
    from sightline.jobs.report import report

    output = Output(is_json)
    with output.guarded():
        found = report(folders, out, samples=samples, figures=figures)
    output.document(found.to_dict())
    output.text(str(found))
    if is_opened:
        click.launch(str(found.path))
