"""Options that every command takes, and those that several share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from sightline.methods.registry import check_method
from sightline.plugins import load_plugin

Function = TypeVar("Function", bound=Callable[..., Any])

DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Common:
    """What every command is told.

    json      one JSON document on standard output
    seed      of everything drawn at random
    device    auto, cpu, cuda, cuda:1, mps, ...
    dtype     of the weights: auto, float32, bfloat16, float16
    quantize  "4bit", "8bit" or None
    """

    json: bool = False
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    quantize: str | None = None


def _device(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu|npu)(:\d+)?", value):
        raise click.BadParameter(f"{value!r} is no device: auto, cpu, cuda, cuda:1, mps, xpu or npu")
    return value


def _plugins(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    for module in value:
        load_plugin(module)


plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="MODULE",
    is_eager=True,
    expose_value=False,
    callback=_plugins,
    help="Import a module that registers methods or benchmarks. Repeatable.",
)


def known_method(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Callback of --method: a wrong name is refused before anything is loaded."""
    for spec in () if value is None else (value,) if isinstance(value, str) else value:
        check_method(spec)
    return value


def known_benchmark(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of --bench: a wrong name is refused before anything is loaded."""
    from sightline.benchmarks.base import BENCHMARKS

    for spec in value:
        BENCHMARKS.check(spec.partition(":")[0])
    return value


def common_options(function: Function) -> Function:
    """Adds the options of `Common` to a command, which is given them as its first argument."""

    @wraps(function)
    def command(
        *args: Any, json: bool, seed: int, device: str, dtype: str, quantize: str | None, **options: Any
    ) -> Any:
        return function(Common(json, seed, device, dtype, quantize), *args, **options)

    adders = [
        click.option("--json", is_flag=True, help="One JSON document on standard output, all else on standard error."),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True),
        click.option("--device", default="auto", show_default=True, callback=_device, help="auto, cpu, cuda, cuda:1."),
        click.option("--dtype", type=click.Choice(DTYPES), default="auto", show_default=True),
        click.option("--quantize", type=click.Choice(("4bit", "8bit")), help="Load weights through bitsandbytes."),
        click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."),
        plugin_option,
    ]
    decorated: Any = command
    for add in reversed(adders):
        decorated = add(decorated)
    return decorated  # type: ignore[no-any-return]


def sample_options(function: Function) -> Function:
    """--image (repeatable) and --prompt: one sample from the command line."""
    images = click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Repeatable.")
    prompt = click.option("--prompt", help="What to ask about the image.")
    layout = click.option(
        "--layout",
        type=click.Path(path_type=Path),
        help='Where text and image stand, for a model of unknown kind: {"text": [[start, end]], "image": ...}.',
    )
    return images(prompt(layout(function)))


method_option = click.option(
    "--method",
    default=None,
    metavar="SPEC",
    callback=known_method,
    help="A method: name, or name:field=value,...",
)

sinks_option = click.option(
    "--sinks",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's sinks, as `sightline sinks` writes them.",
)
