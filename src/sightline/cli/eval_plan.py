"""sightline eval --plan: how many items a difference needs, and what those here can find."""

from __future__ import annotations

from typing import Any

import click

from sightline.cli.output import Output
from sightline.jobs.evaluation_plan import EvaluateSettings

plan_option = click.option(
    "--plan",
    type=float,
    metavar="DIFFERENCE",
    help="Load no model; say how many items a difference in accuracy needs, as 0.02, and what those here can find.",
)


def show_plan(output: Output, benches: tuple[str, ...], difference: float, fields: dict[str, Any]) -> None:
    """Prints the plans, or their document."""
    from sightline.jobs.benchmark_items import bench_items
    from sightline.jobs.power import plan_power
    from sightline.pages.tables.beside import power_table

    settings = EvaluateSettings(**fields)
    with output.guarded():
        chosen = {"seed": settings.seed, "limit": settings.limit, **settings.of_bench()}
        items = bench_items(benches, needs_images=False, **chosen)
        found = [plan.to_dict() for plan in plan_power(items, difference)]
    output.table(f"Independent items that a difference of {difference:g} needs (power 0.8)", *power_table(found))
    output.document({"plans": found})
