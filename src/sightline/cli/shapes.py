"""sightline shapes: a benchmark of the bundled world, in official files."""

from __future__ import annotations

from pathlib import Path

import click

from sightline.cli.options import common_options
from sightline.cli.output import Output


@click.command("shapes", epilog="Example: sightline shapes --bench pope --out shapes-pope")
@click.option(
    "--bench",
    required=True,
    metavar="BENCH",
    help="pope, chair, mme, blink, mmmu-pro, amber, hallusionbench, naturalbench, mmvp.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder, new or empty.")
@click.option("--count", type=int, help="Questions, for chair pictures; without it a few hundred.")
@click.option("--size", type=int, default=48, show_default=True, help="Side of the pictures in pixels.")
@click.option("--force", is_flag=True, help="Replace a folder that this command drew before.")
@common_options
def command(is_json: bool, seed: int, bench: str, out: Path, count: int | None, size: int, force: bool) -> None:
    """Draws a benchmark of coloured shapes by --seed and writes it in the official files and folders."""
    from sightline.zoo.official import LAYOUTS
    from sightline.zoo.official.drawing import draw

    output = Output(is_json)
    name = bench.removeprefix("shapes-")
    total = count if count is not None or name not in LAYOUTS else LAYOUTS[name].count
    with output.progress(f"Drawing {name}", total or 0) as bar:
        amount = draw(name, out, count, seed, size, force, lambda done: bar.advance(bar.task_ids[0], done))
    document = {"bench": name, "out": str(out), "count": amount, "seed": seed, "size": size}
    output.document(document | {"unit": LAYOUTS[name].unit, "about": LAYOUTS[name].about})
    output.text(f"{out}: {name}, {amount} {LAYOUTS[name].unit}, seed {seed}, {size} x {size} pixels.")
    output.text(LAYOUTS[name].about)
    output.text(f"Next: sightline eval tiny-llava --bench shapes-{name}:{out}")
