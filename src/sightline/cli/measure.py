"""sightline measure: how attention splits between text and image, layer by layer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sightline.cli.options import Common, common_options, method_option, sample_options, sinks_option
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.jobs.sources import find_data
from sightline.runs.folder import Record, Run, fresh_folder, launched_as

EPILOG = """\b
Examples:
  sightline measure tiny-llava --data shapes --limit 20
  sightline measure tiny-llava --image scene.png --prompt "Is there a red circle?"
  sightline measure llava-hf/llava-1.5-7b-hf --data photos.jsonl --out runs/llava --quantize 4bit"""

TOLD = 5
"""Failed samples whose error is told on standard error."""


@click.command("measure", epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--data",
    metavar="DATA",
    help='A file of JSON lines {"id", "image", "prompt"}, `BENCH` or `BENCH:PATH`, or `shapes`, the bundled scenes.',
)
@sample_options
@click.option(
    "--queries",
    type=click.Choice(("generated", "prompt", "all")),
    default="generated",
    show_default=True,
    help="Whose attention is read: that of the rows which predict the answer, of the prompt's text, of all rows.",
)
@click.option("--new-tokens", type=click.IntRange(1), default=32, show_default=True, help="Generate at most so many.")
@method_option
@sinks_option
@click.option("--limit", type=click.IntRange(1), help="Only so many samples, the first.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Samples in one pass.")
@click.option(
    "--maps",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Of so many samples, the first, maps and a small picture are kept for `sightline report`; 0: of none.",
)
@click.option("--stages", type=click.Choice(("paired", "thirds")), default="paired", show_default=True)
@click.option("--published", metavar="NAME", help="Print the published figures beside, e.g. llava-1.5-7b.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; an interrupted run in it is continued.")
@click.option("--retry-failed", is_flag=True, help="Do samples that failed before again.")
@common_options
def command(
    common: Common,
    models: tuple[str, ...],
    data: str | None,
    images: tuple[Path, ...],
    prompt: str | None,
    limit: int | None,
    published: str | None,
    out: Path | None,
    retry_failed: bool,
    **choices: Any,
) -> None:
    """How attention splits between text and image in each layer of MODEL: a bundled name, a hub name or a folder.

    MDI above 1: a text token draws more attention than an image token. Several models are measured one after the other
    into one table. With --method each sample is measured without and with it.
    """
    from sightline.jobs.measure import Plan
    from sightline.methods.registry import find_method, find_sinks_file

    output = Output(common.json)
    choices["sinks"] = sinks = find_sinks_file(choices["sinks"])
    method = find_method(choices.pop("method"), sinks)
    if published is not None:
        _require_published(published)
    if len(set(models)) < len(models):
        raise InputError("A model is named twice: name each once.")
    with output.guarded():
        found = find_data(data, images, prompt, limit, common.seed)
    plan = Plan(models=models, data=found, method=None if method is None else method.spec(), **choices)
    execute(Task("measure", plan, common, out, published, retry_failed, limit), output)


def _require_published(name: str) -> None:
    from sightline.probes.dominance import PUBLISHED

    if name not in PUBLISHED:
        raise InputError(f"There is no published row named '{name}'; there are {', '.join(sorted(PUBLISHED))}.")


@dataclass(frozen=True)
class Task:
    """A plan, and where and how its results go. command: as run.json names it."""

    command: str
    plan: Any
    common: Common
    out: Path | None = None
    published: str | None = None
    retry_failed: bool = False
    limit: int | None = None


def execute(task: Task, output: Output) -> None:
    """Measures into the run folder, prints the tables or the document, and draws the figures."""
    from sightline.jobs import measure as measuring

    rank, world = launched_as()
    plan, common = task.plan, task.common
    info = {"device": common.device, "batch_size": plan.batch_size, "limit": task.limit, "processes": world}
    info["maps"] = plan.maps
    with (
        _folder(task, world) as (folder, is_kept),
        Run.open(
            folder, task.command, plan.settings(common), info=info, retry_failed=task.retry_failed, rank=rank
        ) as run,
    ):
        try:
            with output.guarded():
                measuring.measure(plan, common, run, output, world)
        except KeyboardInterrupt:
            raise _stopped(run, is_kept) from None
        with run.alone():
            if not measuring.is_complete(plan, run):
                output.note("Other processes are still at work; the last to end prints the result.")
                return
            if world > 1 and run.is_summed_up:
                return  # another process ended at the same time and prints it
            measured = measuring.results(plan, run)
            document = measuring.document(plan, measured, task.published)
            run.finish(document)
        documents = [entry.document() for entry in measured]
        _show(output, documents, document)
        _tell_failures(output, measuring.failures(plan, run))
        output.document(document)
        if is_kept:
            _draw(documents, folder, output)
            output.note(f"Kept in {folder}: run.json, samples.jsonl, summary.json, figures/.")


@contextmanager
def _folder(task: Task, world: int) -> Iterator[tuple[Path, bool]]:
    """The run folder, and whether it stays: one sample without --out is only printed."""
    if task.out is not None:
        yield task.out, True
    elif world > 1:
        raise InputError("Several processes share one run folder: give --out DIR.")
    elif task.plan.data.is_single:
        with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
            yield Path(folder), False
    else:
        yield fresh_folder(f"{task.command}-{task.plan.data.name}"), True


def _stopped(run: Run, is_kept: bool) -> SightlineError:
    if not is_kept:
        return SightlineError("Stopped from the keyboard.")
    return SightlineError(
        f"Stopped from the keyboard; {len(run.records)} samples are in {run.folder}: "
        f"give the same command with --out {run.folder} to continue."
    )


def _show(output: Output, documents: Sequence[dict[str, Any]], document: dict[str, Any]) -> None:
    from sightline.pages.tables.measure import label, show_measured, show_published

    show_measured(output, documents)
    for told in document.get("models", [document]):
        if told.get("published"):
            show_published(output, told["published"])
    for told in documents:
        if told.get("text") is not None:
            output.text(f"{label(told)} answers: {told['text']}")


def _tell_failures(output: Output, failed: Sequence[Record]) -> None:
    for record in failed[:TOLD]:
        output.note(f"Sample {record.id} failed on {record.model}: {record.error}")
    if len(failed) > TOLD:
        output.note(f"... and {len(failed) - TOLD} more, in samples.jsonl.")


def _draw(documents: Sequence[dict[str, Any]], folder: Path, output: Output) -> None:
    from sightline.pages.figures import dominance_figures
    from sightline.pages.tables.measure import label

    with output.guarded():
        dominance_figures({label(told): told for told in documents}, folder / "figures")
