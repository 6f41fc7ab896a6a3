"""sightline demo: the whole story on the bundled models, each step a command that can be given by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from sightline.cli.options import output_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.jobs.report_settings import PAGE_FILE
from sightline.jobs.settings import ModelSettings

OUT = Path("demo-run")


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
@settings_options(ModelSettings, without=("layout",))
@output_options
def command(is_json: bool, limit: int, items: int, out: Path, **loading: Any) -> None:
    """Measures, steers, proves, cuts and scores the bundled models on bundled scenes, and makes a report of it.

    Each step is a command of its own, shown with what it found. Takes a minute or two on two cores.
    """
    from sightline.jobs.demo import MODEL, Demo

    output = Output(is_json)
    begun = time.monotonic()
    stopped = f"Stopped from the keyboard; sightline demo --out {out} goes on."
    with output.job(out, stopped=stopped) as on_progress:
        demo = Demo(ModelSettings(**loading), out, limit, items, lambda each: output.sections([each]), on_progress)
        document = demo.run()
    seconds = time.monotonic() - begun
    output.text(f"{seconds:.0f} seconds. Everything is in {out}; the page to open is {out / PAGE_FILE}.")
    output.text(f'Your own: sightline measure {MODEL} --image YOUR.jpg --prompt "Is there a red circle?"')
    output.document(document)
