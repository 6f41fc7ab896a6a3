"""sightline demo: the bundled model on the bundled scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from sightline.cli.data import find_data
from sightline.cli.measure import Task, execute
from sightline.cli.options import Common, common_options
from sightline.cli.output import Output
from sightline.runs import RUN_FILE, SUMMARY_FILE, Run, read_records
from sightline.sample import Sample

MODEL = "tiny-llava"
OUT = Path("demo-run")
SHOWN = 4
"""Questions that are printed with their answers."""


@click.command("demo", epilog="Example: sightline demo --limit 40")
@click.option("--limit", type=click.IntRange(1), default=24, show_default=True, help="How many scenes.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, show_default=True, help="The run folder.")
@common_options
def command(common: Common, limit: int, out: Path) -> None:
    """Measures the bundled model on bundled scenes, prints the tables and draws the figures."""
    from sightline.cli.measuring import Plan

    output = Output(common.json)
    plan = Plan(models=(MODEL,), data=find_data("shapes", (), None, limit, common.seed))
    _begin_anew(out)
    output.text(f"Measuring {MODEL}, a bundled model, on {limit} bundled scenes: does it look at the image?\n")
    execute(Task("demo", plan, common, out, limit=limit), output)
    _show_answers(output, plan.data.samples, out)
    _say_what_it_means(output, out)
    output.text(f"Figures: {out / 'figures' / 'mdi_by_layer.png'} and {out / 'figures' / 'stages.png'}")
    output.text(f'Next: sightline measure {MODEL} --image YOUR.jpg --prompt "Is there a red circle?"')


def _show_answers(output: Output, samples: Sequence[Sample], folder: Path) -> None:
    """What the model said to the first scenes, beside the truth."""
    said = {record.id: record.result["text"] for record in read_records(folder) if record.result is not None}
    rows = [(sample.prompt, said[sample.id], sample.answer or "") for sample in samples[:SHOWN] if sample.id in said]
    if rows:
        output.texts("What it was asked, and said", ("question", "answer", "truth"), rows)


def _say_what_it_means(output: Output, folder: Path) -> None:
    """The tables' last stage in one sentence."""
    late = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))["stages"]["late"]
    if late["mdi"] is not None:
        output.text(
            f"MDI {late['mdi']:.2f} in the late layers: there a text token draws on average {late['mdi']:.2f} times "
            "the attention of an image token. ± is the standard deviation over scenes; the first token, which draws "
            "attention whatever it says, is left out where it says without sinks."
        )


def _begin_anew(folder: Path) -> None:
    """Clears a demo that is over, so that each shows the work and not yesterday's; one that was interrupted goes on."""
    if not (folder / SUMMARY_FILE).exists() or not _is_demo(folder / RUN_FILE):
        return
    with Run.open(folder, "demo", {}):  # refused while another process writes there
        for path in [folder / RUN_FILE, folder / SUMMARY_FILE, *folder.glob("samples*.jsonl")]:
            path.unlink(missing_ok=True)


def _is_demo(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["command"] == "demo")
    except (OSError, ValueError, KeyError, TypeError):
        return False
