"""sightline sinks: which tokens of a model soak up attention and mean nothing, found and checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.cli.options import Common, common_options, sample_options
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.jobs.load import load_model, pin_folder
from sightline.jobs.sources import Data, find_data
from sightline.runs.folder import Run, fresh_folder, launched_as
from sightline.text import number

if TYPE_CHECKING:
    from sightline.data.sample import Sample
    from sightline.probes.sinks import Search, Sinks
    from sightline.probes.sinks.find import Found, Survey

EPILOG = """\b
Examples:
  sightline sinks tiny-llava --data shapes --limit 20 --out runs/sinks
  sightline measure tiny-llava --data shapes --method var --sinks runs/sinks/sinks.json"""

SURVEY = "survey"

FEW = 10
"""Fewer samples than this say little about a model."""

TOLD = 3
"""Failed samples that are told of one by one."""


@click.command("sinks", epilog=EPILOG)
@click.argument("model")
@click.option(
    "--data",
    metavar="DATA",
    help='A file of JSON lines {"id", "image", "prompt"}, `BENCH` or `BENCH:PATH`, or `shapes`, the bundled scenes.',
)
@sample_options
@click.option("--limit", type=click.IntRange(1), help="Only so many samples, the first.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Samples in one pass.")
@click.option("--tau", type=click.FloatRange(0, min_open=True), help="Threshold of phi; by default 20, less if small.")
@click.option(
    "--factor",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="A sink by attention draws so many times what uniform attention would give it.",
)
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; an interrupted run in it is continued.")
@click.option("--retry-failed", is_flag=True, help="Do samples that failed before again.")
@common_options
def command(
    common: Common,
    model: str,
    data: str | None,
    images: tuple[Path, ...],
    prompt: str | None,
    limit: int | None,
    **choices: Any,
) -> None:
    """The sink dimensions of MODEL (a bundled name, a hub name or a folder), and a check against its attention.

    Writes sinks.json into the run folder, which --sinks of other commands takes. A few dozen samples are enough.
    """
    output = Output(common.json)
    rank, world = launched_as()
    if world > 1:
        raise InputError("sightline sinks runs in one process: start it without accelerate launch.")
    with output.guarded():
        found = find_data(data, images, prompt, limit, common.seed)
    task = _Task(model, found, common, limit=limit, **choices)
    with (
        _folder(task) as folder,
        Run.open(folder, "sinks", task.settings(), info=task.info(), retry_failed=task.retry_failed, rank=rank) as run,
    ):
        try:
            with output.guarded():
                sinks = _find(task, run, output)
        except KeyboardInterrupt:
            raise SightlineError(
                f"Stopped from the keyboard: give the same command with --out {folder} to continue."
            ) from None
        document = sinks.to_dict()
        run.finish(document)
        sinks.save(folder)
        _show(output, sinks)
        output.document(document)
        _tell_failures(task, run, output)
        if sinks.samples < FEW:
            output.note(f"Found on {sinks.samples} sample{'s' * (sinks.samples != 1)}: a few dozen tell more surely.")
        if task.is_kept:
            output.note(f"Kept in {folder}: sinks.json, run.json, samples.jsonl, summary.json.")


@dataclass(frozen=True)
class _Task:
    """What is asked for."""

    model: str
    data: Data
    common: Common
    layout: Path | None = None
    limit: int | None = None
    batch_size: int = 1
    tau: float | None = None
    factor: float = 3.0
    out: Path | None = None
    retry_failed: bool = False

    @property
    def is_kept(self) -> bool:
        """One sample without --out is only printed."""
        return self.out is not None or not self.data.is_single

    def settings(self) -> dict[str, Any]:
        """All that decides the result; how many samples is free to differ."""
        return {
            "models": [self.model],
            **self.data.settings,
            "tau": self.tau,
            "factor": self.factor,
            "layout": None if self.layout is None else str(self.layout),
            "seed": self.common.seed,
            "dtype": self.common.dtype,
            "quantize": self.common.quantize,
        }

    def info(self) -> dict[str, Any]:
        """Worth keeping."""
        return {"device": self.common.device, "batch_size": self.batch_size, "limit": self.limit}


@contextmanager
def _folder(task: _Task) -> Iterator[Path]:
    if task.out is not None:
        yield task.out
    elif task.data.is_single:
        with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
            yield Path(folder)
    else:
        yield fresh_folder(f"sinks-{task.data.name}")


def _find(task: _Task, run: Run, output: Output) -> Sinks:
    """Two passes over the samples, each sample's part on disk before the next begins."""
    from sightline.probes.sinks.check import SampleCheck
    from sightline.probes.sinks.find import Survey
    from sightline.probes.sinks.search import Search

    pin_folder(task.model, run)
    vlm = load_model(task.model, task.common, task.layout)
    if vlm.revision is not None:
        run.pin(f"revision of {task.model}", vlm.revision)
    search = Search.on(vlm, tau=task.tau, factor=task.factor)
    samples = task.data.samples
    with output.progress("looking for sinks", 2 * len(samples)) as bar:

        def advance() -> None:
            bar.advance(bar.task_ids[0])

        surveys: list[Survey] = [
            Survey.from_dict(told) for told in _pass(task, run, SURVEY, samples, _surveyor(search), advance)
        ]
        found = search.choose(surveys)
        # Other samples may lead to other dimensions, with which each is to be checked anew.
        name = f"check {'+'.join(map(str, found.dims)) or 'none'} {found.tau:g}"
        checks = [
            SampleCheck.from_dict(told) for told in _pass(task, run, name, samples, _checker(search, found), advance)
        ]
    return search.summarise(found, checks, failed=len(samples) - len(checks))


def _tell_failures(task: _Task, run: Run, output: Output) -> None:
    failed: dict[str, str] = {}
    for record in run.records.values():
        if record.error is not None:
            failed.setdefault(record.id, record.error)
    for name, error in list(failed.items())[:TOLD]:
        output.note(f"Sample {name} failed: {error}")
    if len(failed) > TOLD:
        output.note(f"... and {len(failed) - TOLD} more, in samples.jsonl.")


def _surveyor(search: Search) -> Any:
    return lambda batch: [entry.to_dict() for entry in search.survey(batch)]


def _checker(search: Search, found: Found) -> Any:
    return lambda batch: [entry.to_dict() for entry in search.check(batch, found)]


def _pass(
    task: _Task, run: Run, name: str, samples: Sequence[Sample], attempt: Any, advance: Any
) -> list[dict[str, Any]]:
    """The results of one pass over the samples, those of an interrupted run taken up; failed ones are left out."""
    from sightline.runs.batches import Batches

    done = run.done_ids(task.model, name)
    for _ in range(sum(sample.id in done for sample in samples)):
        advance()
    for outcome in Batches(task.batch_size).outcomes([sample for sample in samples if sample.id not in done], attempt):
        if outcome.error is not None and task.data.is_single:
            raise outcome.error
        run.record(outcome.id, model=task.model, method=name, **outcome.fields())
        advance()
    records = [run.records[task.model, name, sample.id] for sample in samples]
    good = [dict(record.result) for record in records if record.result is not None]
    if not good:
        raise InputError(
            f"Not one of {len(records)} samples could be run on {task.model}; the first: {records[0].error}"
        )
    return good


def _show(output: Output, sinks: Sinks) -> None:
    from sightline.probes.sinks import known_sinks

    failed = f", {sinks.failed} failed" if sinks.failed else ""
    title = f"{sinks.model}: {sinks.samples} sample{'s' * (sinks.samples != 1)}{failed}"
    output.text(str(sinks))
    if not sinks.dims:
        output.text(
            "Methods that act on sinks (var and its controls) change nothing on it; the others do not need any."
        )
    reported = known_sinks(sinks.model)
    if reported is not None:
        output.text(f"Reported elsewhere: {', '.join(map(str, reported.dims))} ({reported.source}).")
    if sinks.candidates:
        rows = [(str(dim), number(score), "yes" if dim in sinks.dims else "") for dim, score in sinks.candidates]
        output.table("Candidates", ("dimension", "score", "kept"), rows)
    layers = [
        (
            str(layer.layer),
            number(layer.image_sinks, 1),
            number(layer.text_sinks, 1),
            number(layer.attended, 1),
            number(layer.precision),
            number(layer.recall),
        )
        for layer in sinks.layers
    ]
    columns = ("layer", "image sinks", "text sinks", f"above {sinks.factor:g} x uniform", "precision", "recall")
    output.table(title, columns, layers)
    if sinks.precision is not None or sinks.recall is not None:
        output.text(f"Against attention itself: precision {number(sinks.precision)}, recall {number(sinks.recall)}.")
    if sinks.on_border is not None:
        output.text(f"On the border: {number(sinks.on_border)} of image sinks, {number(sinks.border)} of all patches.")
    if sinks.on_background is not None:
        output.text(
            f"On uniform background: {number(sinks.on_background)} of image sinks, "
            f"{number(sinks.background)} of all patches."
        )
