"""sightline eval: methods on benchmarks, on the same items, compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sightline.cli.options import Common, common_options, known_benchmark, known_method, sinks_option
from sightline.cli.output import Output
from sightline.errors import InputError, SightlineError
from sightline.jobs.benchmark_items import bench_options
from sightline.runs.folder import SUMMARY_FILE, Record, Run, fresh_folder, launched_as

if TYPE_CHECKING:
    from sightline.benchmarks.base import Parser
    from sightline.jobs.benchmark_items import BenchmarkItems
    from sightline.jobs.evaluate import Plan, Spec
    from sightline.probes.sinks import Sinks

EPILOG = """\b
Examples:
  sightline eval tiny-llava --bench shapes-pope --method none --method pai
  sightline eval llava-hf/llava-1.5-7b-hf --bench pope:POPE/output/coco --method none \\
      --method var --sinks runs/sinks/sinks.json --limit 300 --out runs/pope
  accelerate launch --num_processes 4 -m sightline eval MODEL --bench mme:MME --out runs/mme"""

TOLD = 5
"""Failed items whose error is told on standard error."""


def _batch_size(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither auto nor a whole number from 1 on")
    return int(value)


def _template(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """With line breaks, which are hard to type in some shells."""
    return None if value is None else value.replace("\\n", "\n")


@click.command("eval", epilog=EPILOG)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--bench",
    "benches",
    multiple=True,
    required=True,
    metavar="BENCH[:PATH]",
    callback=known_benchmark,
    help="A benchmark (see `sightline list benches`), from a local file or folder or else by its official name from "
    "the hub. Repeatable.",
)
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="SPEC",
    callback=known_method,
    help="none, name, or name:field=value,... Repeatable; the others are compared with the first. Without: none alone.",
)
@sinks_option
@click.option(
    "--limit", type=click.IntRange(1), help="Only so many items, evenly over splits or subtasks, the first of each."
)
@click.option(
    "--parser",
    type=click.Choice(("official", "strict")),
    default="official",
    show_default=True,
    help="How answers are read: as the benchmark's own script does, or without any guess. Free to change later.",
)
@click.option(
    "--prompt",
    "template",
    metavar="TEMPLATE",
    callback=_template,
    help="Other words than the official ones, with {question}; \\n begins a line.",
)
@bench_options
@click.option("--new-tokens", type=click.IntRange(1), help="Longest answer; by default the benchmark's.")
@click.option(
    "--batch-size",
    callback=_batch_size,
    default="auto",
    show_default=True,
    metavar="N|auto",
    help="Items in one pass; auto begins by the free memory. Either is halved when memory does not suffice.",
)
@click.option("--layout", type=click.Path(path_type=Path), help="Where text and image stand, for an unknown model.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder; an interrupted run in it is continued.")
@click.option("--retry-failed", is_flag=True, help="Ask items that failed before again.")
@common_options
def command(
    common: Common,
    models: tuple[str, ...],
    benches: tuple[str, ...],
    methods: tuple[str, ...],
    sinks: Path | None,
    limit: int | None,
    parser: Parser,
    new_tokens: int | None,
    batch_size: int | None,
    layout: Path | None,
    out: Path | None,
    retry_failed: bool,
    **fields: Any,
) -> None:
    """Answers of MODEL (a bundled name, a hub name or a folder) to benchmarks under any number of methods.

    All methods get the same items and decode greedily. Each is scored, and compared with the first named by difference,
    paired bootstrap interval, exact McNemar test and the items that flip. `none`, the model as it is, is a method like
    others: name it to have it. A run folder takes more methods, models and items later.
    """
    from sightline.jobs.benchmark_items import find_asked
    from sightline.jobs.evaluate import Plan
    from sightline.methods.registry import find_sinks_file

    output = Output(common.json)
    if len(set(models)) < len(models):
        raise InputError("A model is named twice: name each once.")
    if len(set(benches)) < len(benches):
        raise InputError("A benchmark is named twice: name each once.")
    with output.guarded():
        known_sinks = find_sinks_file(sinks)
        specs = _specs(methods or ("none",), known_sinks)
        asked = tuple(find_asked(name, seed=common.seed, limit=limit, **fields) for name in benches)
    plan = Plan(models, asked, specs, new_tokens, batch_size, layout, known_sinks)
    execute(Task(plan, common, parser, out, retry_failed, limit), output)


def _specs(labels: Sequence[str], sinks: Sinks | None) -> tuple[Spec, ...]:
    from sightline.jobs.evaluate import NONE, Spec
    from sightline.methods.registry import find_method

    specs: list[Spec] = []
    for label in (label.strip() for label in labels):
        method = find_method(label, sinks)
        spec = Spec(label, NONE if method is None else method.spec(), method)
        same = next((other.label for other in specs if other.name == spec.name), None)
        if same is not None:
            raise InputError(f"The methods '{same}' and '{label}' are the same: name each once.")
        specs.append(spec)
    return tuple(specs)


@dataclass(frozen=True)
class Task:
    """A plan, and where and how its results go."""

    plan: Plan
    common: Common
    parser: Parser = "official"
    out: Path | None = None
    retry_failed: bool = False
    limit: int | None = None

    def info(self, asked: BenchmarkItems, world: int) -> dict[str, Any]:
        """Worth keeping; free to differ when the run is continued."""
        return {
            "device": self.common.device,
            "batch_size": self.plan.batch_size or "auto",
            "limit": self.limit,
            "processes": world,
            "models": self.plan.models,
            "methods": [spec.name for spec in self.plan.specs],
            "path": asked.path,
            "fields": asked.fields,
            "items": len(asked.items) + len(asked.bad),
        }


def execute(task: Task, output: Output) -> None:
    """Evaluates into the run folder, and prints the tables or the document."""
    from sightline.cli.live import LiveBoard
    from sightline.jobs.evaluate import evaluate, is_complete
    from sightline.pages.tables import evaluate as evaluated

    rank, world = launched_as()
    plan, folder = task.plan, _folder(task, world)
    with ExitStack() as stack:
        runs = [stack.enter_context(_open(task, asked, place, rank, world)) for asked, place in _places(task, folder)]
        try:
            with output.guarded():
                evaluate(plan, task.common, runs, LiveBoard(output, plan, task.parser), world)
        except KeyboardInterrupt:
            raise _stopped(runs, folder) from None
        stack.enter_context(runs[0].alone())
        if not is_complete(plan, runs):
            output.note("Other processes are still at work; the last to end prints the result.")
            return
        if world > 1 and runs[0].is_summed_up:
            return  # another process ended at the same time and prints it
        found = evaluated.documents(plan, runs, task.common, task.parser)
        for run in runs:
            of_bench = [told for told in found if told["answers"] == str(run.folder / "samples.jsonl")]
            run.finish(evaluated.together(of_bench))
            evaluated.write_tables(run.folder, of_bench)
        document = evaluated.together(found)
        if len(runs) > 1:
            from sightline.files.json import json_text, write_atomically

            write_atomically(folder / SUMMARY_FILE, json_text(document, indent=2))
            evaluated.write_tables(folder, found)
        evaluated.show(output, found)
        _tell_failures(output, evaluated.failures(plan, runs))
        output.document(document)
        lines = ", ".join(str(path) for run in runs for path in sorted(run.folder.glob("samples*.jsonl")))
        output.note(f"Raw answers: {lines}. Also in {folder}: summary.json, table.csv, table.md.")


def _folder(task: Task, world: int) -> Path:
    if task.out is not None:
        return task.out
    if world > 1:
        raise InputError("Several processes share one run folder: give --out DIR.")
    names = "-".join(dict.fromkeys(asked.name for asked in task.plan.benches))
    return fresh_folder(f"eval-{names}")


def _places(task: Task, folder: Path) -> list[tuple[BenchmarkItems, Path]]:
    """Each benchmark's run folder: the folder itself for one, else a folder below it."""
    from sightline.benchmarks.answer_files import run_folders

    if len(task.plan.benches) == 1:
        if below := run_folders(folder):
            raise InputError(f"{folder} holds run folders: give --out {below[0]} to continue that, or another folder.")
        return [(task.plan.benches[0], folder)]
    if (folder / "run.json").exists():
        raise InputError(f"{folder} is the run folder of one benchmark: give another --out for several.")
    places: list[tuple[BenchmarkItems, Path]] = []
    for asked in task.plan.benches:
        count = sum(other.name == asked.name for other, _ in places)
        places.append((asked, folder / (f"{asked.name}-{count + 1}" if count else asked.name)))
    return places


def _open(task: Task, asked: BenchmarkItems, place: Path, rank: int, world: int) -> Run:
    settings = task.plan.settings(asked, task.common)
    info = task.info(asked, world)
    return Run.open(place, "eval", settings, info=info, retry_failed=task.retry_failed, rank=rank)


def _stopped(runs: Sequence[Run], folder: Path) -> SightlineError:
    count = sum(len(run.records) for run in runs)
    return SightlineError(
        f"Stopped from the keyboard; {count} answers are in {folder}: "
        f"give the same command with --out {folder} to continue."
    )


def _tell_failures(output: Output, failed: Sequence[Record]) -> None:
    for record in failed[:TOLD]:
        output.note(f"Item {record.id} failed under {record.method} on {record.model}: {record.error}")
    if len(failed) > TOLD:
        output.note(f"... and {len(failed) - TOLD} more, in samples.jsonl.")
