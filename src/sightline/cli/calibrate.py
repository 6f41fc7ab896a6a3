"""sightline calibrate: what each instrument shows on models whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sightline.cli.options import known_model, out_option, output_options
from sightline.cli.output import Output
from sightline.cli.settings_options import settings_options
from sightline.jobs.calibrate_plan import CalibrateSettings
from sightline.runs.folder import fresh_folder

EPILOG = """\b
Examples:
  sightline calibrate --quick
  sightline calibrate tiny-half tiny-llava --parts instruments
  sightline calibrate --instrument MDI --instrument "impact, causal" --out runs/calibrate"""


@click.command("calibrate", epilog=EPILOG)
@click.argument("models", nargs=-1, metavar="[MODEL...]", callback=known_model)
@click.option("--instrument", "instruments", multiple=True, help="Only this instrument. Repeatable; all by default.")
@out_option
@settings_options(CalibrateSettings)
@output_options
def command(
    is_json: bool, models: tuple[str, ...], instruments: tuple[str, ...], out: Path | None, **fields: Any
) -> None:
    """Holds every instrument, and every method, against models whose truth is known by intervention.

    MODEL is one of the bundled models of which a truth is known; all of them by default. The numbers are reported as
    they are, also where a well-known index fails. With --quick a few minutes, else about an hour on two cores.
    """
    from sightline.jobs.calibrate import calibrate

    output = Output(is_json)
    folder = fresh_folder("calibrate") if out is None else out
    with output.job(folder, "readings") as on_progress:
        found = calibrate(models, instruments=instruments or None, out=folder, on_progress=on_progress, **fields)
    output.sections(found.sections())
    output.failures(found.failed, "Case")
    output.document(found.to_dict())
    output.note(f"Kept in {folder}: run.json, samples.jsonl, summary.json, figures/.")
