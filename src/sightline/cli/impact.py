"""sightline impact: what a model would do without each token, at each layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from sightline.cli.options import Common, common_options, sample_options
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.files.digest import digest_of
from sightline.jobs.impact_config import Request, read_config
from sightline.jobs.sources import SINGLE, single_sample
from sightline.runs.folder import Run, fresh_folder
from sightline.runs.processes import launched_as

EPILOG = """\b
Examples:
  sightline impact tiny-llava --image scene.png --prompt "is there a red circle in the image ?" --mode causal
  sightline impact tiny-llava --image scene.png --prompt "is there a red circle ?" --mode vision --block 2
  sightline impact Qwen/Qwen2.5-7B-Instruct --prompt "Is the sky blue?" --compare Qwen/Qwen2.5-VL-7B-Instruct
  sightline impact llava-hf/llava-1.5-7b-hf --config prompts.yaml --out runs/impact"""

OPTIONS = (
    "mode", "tokens", "unit", "block", "positions", "row", "layers", "window", "scope", "per_head", "target",
    "new_tokens", "control", "among", "fill",
)  # fmt: skip
"""Options that are settings of a study."""


def _row(context: click.Context, parameter: click.Parameter, value: str) -> str | int:
    if value in ("last", "all"):
        return value
    return _integer(value, "a position, last or all")


def _target(context: click.Context, parameter: click.Parameter, value: str) -> str | int:
    return value if value == "predicted" else _integer(value, "the id of a token, or predicted")


def _integer(value: str, wanted: str) -> int:
    if not re.fullmatch(r"-?\d{1,9}", value):
        raise click.BadParameter(f"{value!r} is not {wanted}")
    return int(value)


def _layers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """ "0,4-7" as (0, 4, 5, 6, 7)."""
    if value is None:
        return None
    found: list[int] = []
    for part in value.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise click.BadParameter(f"{part!r} is no layer: write 0,4-7")
        found.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(dict.fromkeys(found))


def _positions(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    """ "3,7,10+11" as (3, 7, (10, 11)): what a plus joins is hidden together."""
    if value is None:
        return None
    groups = [
        [_integer(item.strip(), "a position: write 3,7,10+11") for item in part.split("+")] for part in value.split(",")
    ]
    return tuple(group[0] if len(group) == 1 else tuple(group) for group in groups)


@click.command("impact", epilog=EPILOG)
@click.argument("model")
@sample_options
@click.option(
    "--mode",
    type=click.Choice(("local", "causal", "vision", "tower", "deepstack")),
    default="causal",
    show_default=True,
    help="What is changed and where the effect is read: the layer's own output, or the answer.",
)
@click.option("--tokens", type=click.Choice(("text", "image", "all")), default="all", show_default=True)
@click.option(
    "--unit",
    type=click.Choice(("token", "word", "patches", "modality")),
    default="token",
    show_default=True,
    help="What is hidden as one.",
)
@click.option("--block", type=click.IntRange(1), help="Patches are hidden in blocks of K x K.", metavar="K")
@click.option("--positions", callback=_positions, metavar="LIST", help="Hide these alone: 3,7,10+11 (a plus joins).")
@click.option("--row", default="last", callback=_row, show_default=True, help="Whose view: a position, last or all.")
@click.option("--layers", callback=_layers, metavar="LIST", help="Only these layers: 0,4-7.")
@click.option("--window", type=click.IntRange(1), default=1, show_default=True, help="Layers that are cut together.")
@click.option(
    "--scope",
    type=click.Choice(("row", "every-row")),
    default="row",
    show_default=True,
    help="Cut from the row alone, or from every row after the token (slow).",
)
@click.option("--per-head", is_flag=True, help="Also the distance of each head's output (local).")
@click.option("--target", default="predicted", callback=_target, show_default=True, help="Token id that is followed.")
@click.option("--new-tokens", type=click.IntRange(1), metavar="N", help="A map for each of N tokens of the answer.")
@click.option(
    "--control", type=click.IntRange(0), default=0, metavar="N", help="Beside, N random groups of equal size."
)
@click.option(
    "--among", type=click.Choice(("same", "other")), default="same", show_default=True, help="Of which modality."
)
@click.option("--fill", type=click.Choice(("gray", "blur", "mean")), default="gray", show_default=True)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="A YAML file of prompts and settings.")
@click.option("--compare", metavar="MODEL", help="Align with this model on the same prompt.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; an interrupted run in it is continued.")
@click.option("--retry-failed", is_flag=True, help="Do prompts that failed before again.")
@common_options
@click.pass_context
def command(context: click.Context, /, common: Common, **options: Any) -> None:
    """What MODEL (a bundled name, a hub name or a folder) would do without each token, at each layer.

    Writes CSV, JSON and figures into the run folder: runs/impact-... unless --out is given.
    """
    output = Output(common.json)
    if launched_as()[1] > 1:
        raise InputError("sightline impact runs in one process: start it without accelerate launch.")
    with output.guarded():
        task = _task(context, common, options)
    _execute(task, output)


@dataclass(frozen=True)
class Task:
    """What is asked for, and where it goes. is_single: the prompt of --image and --prompt."""

    model: str
    requests: tuple[Request, ...]
    common: Common
    folder: Path
    compare: str | None = None
    layout: Path | None = None
    retry_failed: bool = False
    is_single: bool = False

    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        return {
            "model": self.model,
            "compare": self.compare,
            "layout": None if self.layout is None else digest_of(self.layout, "layout"),
            "seed": self.common.seed,
            "dtype": self.common.dtype,
            "quantize": self.common.quantize,
        } | ({} if not self.is_single else self.requests[0].settings())


def _task(context: click.Context, common: Common, options: Mapping[str, Any]) -> Task:
    given = {
        name: options[name]
        for name in OPTIONS
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    config, images, prompt = options["config"], options["images"], options["prompt"]
    if config is not None:
        if images or prompt is not None:
            raise InputError("Give --config, or --image with --prompt, not both.")
        requests, name = read_config(config, given, common.seed), config.stem
    else:
        requests, name = [_single(images, prompt, given, common.seed)], images[0].stem if images else "text"
    if options["compare"] is not None:
        _require_comparable(requests)
    folder = options["out"] or fresh_folder(f"impact-{name}")
    return Task(
        options["model"],
        tuple(requests),
        common,
        folder,
        options["compare"],
        options["layout"],
        options["retry_failed"],
        config is None,
    )


def _single(images: tuple[Path, ...], prompt: str | None, given: Mapping[str, Any], seed: int) -> Request:
    from sightline.knockout.study import Study

    if prompt is None and not images:
        raise InputError("There is nothing to look at: give --prompt, mostly with --image FILE, or --config FILE.")
    study = Study(**given, seed=seed)
    sample = single_sample(images, prompt)
    return Request(
        replace(sample, id=SINGLE, images=tuple(images)), study, tuple(digest_of(image, "image") for image in images)
    )


def _require_comparable(requests: list[Request]) -> None:
    if any(request.study.mode not in ("local", "causal") for request in requests):
        raise InputError("Models are compared in the modes local and causal: give one of them with --compare.")
    if any(request.study.new_tokens is not None for request in requests):
        raise InputError("Models are compared on a prompt, not over an answer: leave --new-tokens out with --compare.")


def _execute(task: Task, output: Output) -> None:
    from sightline.jobs import impact as impact_running
    from sightline.pages.tables import impact as impact_tables

    with Run.open(
        task.folder,
        "impact",
        task.settings()
        if task.is_single
        else task.settings() | {"prompts": [each.settings() for each in task.requests]},
        info={"device": task.common.device},
        retry_failed=task.retry_failed,
    ) as run:
        try:
            with output.guarded():
                impact_running.work(task, run, output)
        except KeyboardInterrupt:
            raise SightlineError(
                f"Stopped from the keyboard: give the same command with --out {task.folder} to continue."
            ) from None
        document = impact_running.document(task, run)
        run.finish(impact_running.summary(task, run))
    impact_tables.show(output, task, document)
    output.document(document)
    output.note(f"Kept in {task.folder}: {impact_running.told(task)}.")
