"""Options that every command takes, and those that several share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from sightline.cli.plugin_option import plugin_option
from sightline.cli.settings_options import settings_options
from sightline.data.picture_names import named_picture
from sightline.errors import InputError
from sightline.jobs.settings import ModelSettings
from sightline.methods.registry import check_method
from sightline.runs.description import RUN_FILE, described, refuse_command
from sightline.runs.folder import fresh_folder
from sightline.runs.processes import launched_as

if TYPE_CHECKING:
    from sightline.data.sample import Sample

Function = TypeVar("Function", bound=Callable[..., Any])


def output_options(function: Function) -> Function:
    """--json, which the command is given as `is_json`, --debug and --plugin."""
    json = click.option(
        "--json", "is_json", is_flag=True, help="One JSON document on standard output, all else on standard error."
    )
    debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    return json(debug(plugin_option(function)))


def _own_folder(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """Callback of --out: another command's run folder is refused before anything is loaded.

    `reproduce` keeps the run of the command behind its table, and sees for itself whether it is of that table.
    """
    if value is not None and context.command.name != "reproduce" and (value / RUN_FILE).is_file():
        refuse_command(value, described(value)["command"], str(context.command.name))
    return value


out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=_own_folder,
    help="The run folder; an interrupted run in it is continued.",
)


def run_options(function: Function) -> Function:
    """--out, --track and `output_options`."""
    track = click.option(
        "--track",
        metavar="NAME[:PROJECT]",
        help="Show progress and figures in trackio, wandb, mlflow or tensorboard (tensorboard:FOLDER).",
    )
    return out_option(track(output_options(function)))


def run_folder(out: Path | None, name: str) -> Path | None:
    """--out, or without it a new folder, where there is one process; several must be given theirs."""
    return fresh_folder(name) if out is None and launched_as()[1] == 1 else out


def data_options(function: Function) -> Function:
    """--data, or --image (repeatable) with --prompt: the command, which takes limit and seed, is given its `Data`."""

    @wraps(function)
    def command(*args: Any, data: str | None, images: Images, prompt: str | None, **options: Any) -> Any:
        from sightline.jobs.sources import find_data, single_data  # with benchmarks and scenes, which help needs not

        if data is not None and (images or prompt is not None):
            raise InputError("Give --data, or --image with --prompt, not both.")
        with redirect_stdout(sys.stderr):
            found = (
                single_data(images, prompt)
                if data is None
                else find_data(data, limit=options["limit"], seed=options["seed"])
            )
        return function(*args, data=found, **options)

    add = click.option(
        "--data",
        metavar="DATA",
        help='A file of JSON lines {"id", "image", "prompt"}, `BENCH` or `BENCH:PATH`, or `shapes`, bundled scenes.',
    )
    return add(sample_options(command))  # type: ignore[return-value]


Images: TypeAlias = tuple[str | Path, ...]
"""Files, or data: URIs."""


def known_method(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of --method: a wrong name is refused before anything is loaded."""
    for spec in () if value is None else (value,) if isinstance(value, str) else value:
        check_method(spec)
    return value


def known_model(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of MODEL: what can be no model's name, and a folder that is none, is refused before torch loads."""
    from sightline.integrations.served import is_served
    from sightline.models.source import find_source

    for name in () if value is None else (value,) if isinstance(value, str) else value:
        if not is_served(name):
            find_source(name)
    return value


def known_benchmark(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of --bench: a wrong name is refused before anything is loaded."""
    from sightline.benchmarks.base import BENCHMARKS, bench_name

    for spec in value:
        BENCHMARKS.check(bench_name(spec))
    return value


def common_options(function: Function) -> Function:
    """Options of every command, on one that loads no model: it is given `is_json` and `seed` alone."""

    @wraps(function)
    def command(*args: Any, device: str, dtype: str, quantize: str | None, **options: Any) -> Any:
        return function(*args, **options)

    adders = settings_options(ModelSettings, only=("seed", "device", "dtype", "quantize"))
    return adders(output_options(command))  # type: ignore[return-value]


def _named_pictures(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Images:
    return tuple(map(named_picture, value))


def sample_options(function: Function) -> Function:
    """--image (repeatable) and --prompt: one sample from the command line, see `given_sample`."""
    images = click.option(
        "--image", "images", multiple=True, metavar="FILE", callback=_named_pictures, help="Or a data: URI. Repeatable."
    )
    prompt = click.option("--prompt", help="What to ask about the image.")
    return images(prompt(function))


def given_sample(images: Images, prompt: str | None) -> Sample:
    """The sample of these options, its images opened once, so that an unusable one shows before a model loads."""
    from sightline.data.sample import Sample
    from sightline.jobs.sources import SINGLE, single_sample

    single_sample(images, prompt)
    return Sample(prompt=prompt or "", images=tuple(images), id=SINGLE)


models_argument = click.argument("models", nargs=-1, required=True, metavar="MODEL...", callback=known_model)


def one_method(command: str) -> Callable[[Function], Function]:
    """--method, once: a command that takes one refuses several."""

    def single(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> str | None:
        if len(value) > 1:
            raise InputError(
                f"{command} takes one --method and is given {len(value)}, {' and '.join(value)}: give one; in Python "
                "methods compose in one `with`."
            )
        known_method(context, parameter, value)
        return value[0] if value else None

    help = "A method: name, or name:field=value,..."
    return click.option("--method", multiple=True, metavar="SPEC", callback=single, help=help)


def methods_option(help: str) -> Callable[[Function], Function]:
    """--method, repeatable."""
    return click.option("--method", "methods", multiple=True, metavar="SPEC", callback=known_method, help=help)


benches_option = click.option(
    "--bench",
    "benches",
    multiple=True,
    required=True,
    metavar="BENCH[:PATH]",
    callback=known_benchmark,
    help="A benchmark (see `sightline list benches`), from a local file or folder or else by its official name from "
    "the hub; its own options behind commas, as chair:COCO,synonyms=FILE. Repeatable.",
)

sinks_option = click.option(
    "--sinks",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's sinks, as `sightline sinks` writes them.",
)
