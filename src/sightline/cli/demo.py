"""sightline demo: the whole story on the bundled models, each step a command that can be given by itself."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from sightline.cli.options import Common, common_options
from sightline.cli.output import Output
from sightline.errors import SightlineError
from sightline.runs.folder import RUN_FILE, SUMMARY_FILE, Run

OUT = Path("demo-run")
PAGE = "report.html"


@click.command("demo", epilog="Example: sightline demo --limit 40")
@click.option("--limit", type=click.IntRange(1), default=24, show_default=True, help="How many scenes are measured.")
@click.option(
    "--items",
    type=click.IntRange(3),
    default=600,
    show_default=True,
    help="How many benchmark questions at most are asked.",
)
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True, help="The folder of the runs.")
@common_options
def command(common: Common, limit: int, items: int, out: Path) -> None:
    """Measures, steers, proves, cuts and scores the bundled models on bundled scenes, and makes a report of it.

    Each step is a command of its own, shown with what it found. Takes a minute or two on two cores.
    """
    from sightline.cli.demo_steps import Demo

    output = Output(common.json)
    begun = time.monotonic()
    _begin_anew(out)
    demo = Demo(common, out, limit, items, output)
    try:
        document = demo.run()
    except KeyboardInterrupt:
        raise SightlineError(f"Stopped from the keyboard; sightline demo --out {out} goes on.") from None
    seconds = time.monotonic() - begun
    output.text(f"{seconds:.0f} seconds. Everything is in {out}; the page to open is {out / PAGE}.")
    output.text(f'Your own: sightline measure {demo.model} --image YOUR.jpg --prompt "Is there a red circle?"')
    output.document(document)


def _begin_anew(folder: Path) -> None:
    """Clears a demo that is over, so that each shows the work and not yesterday's; one that was interrupted goes on."""
    from sightline.cli.demo_steps import FOLDERS

    if not _is_over(folder):
        return
    for place in (folder / name for name in FOLDERS):
        for run_file in [place / RUN_FILE, *place.glob(f"*/{RUN_FILE}")]:
            with suppress(OSError, ValueError, KeyError, TypeError):
                about = json.loads(run_file.read_text(encoding="utf-8"))
                with Run.open(run_file.parent, about["command"], about["settings"]):
                    pass  # refused while another process writes there
        if (place / SUMMARY_FILE).exists():
            shutil.rmtree(place)
    (folder / SUMMARY_FILE).unlink()


def _is_over(folder: Path) -> bool:
    try:
        told: Any = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        return bool(told["command"] == "demo")
    except (OSError, ValueError, KeyError, TypeError):
        return False
