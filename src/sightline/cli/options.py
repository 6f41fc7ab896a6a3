"""Options that every command takes, and those that several share; most are made of the settings of jobs."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from sightline.data.sample import Sample
from sightline.errors import InputError
from sightline.jobs.sources import SINGLE, Data, find_data, single_data, single_sample
from sightline.methods.registry import check_method
from sightline.plugins import load_plugin
from sightline.text import parse_fields

Function = TypeVar("Function", bound=Callable[..., Any])

Parse = Callable[[str], Any]


def settings_options(
    kind: type[Any], parse: Mapping[str, Parse] | None = None, without: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Decorator: an option for each field of a settings class, which the command is given by the fields' names.

    parse: for fields whose values are lists or the like, what reads one; it raises ValueError in words.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = [name for part in kind.__mro__ for name in inspect.get_annotations(part) if name in fields]
    hints = typing.get_type_hints(kind)
    shown = [fields[name] for name in dict.fromkeys(own) if not fields[name].metadata.get("hidden")]
    options = [
        _option(field, hints[field.name], (parse or {}).get(field.name)) for field in shown if field.name not in without
    ]

    def decorate(function: Function) -> Function:
        for add in reversed(options):
            function = add(function)
        return function

    return decorate


def output_options(function: Function) -> Function:
    """--json, which the command is given as `is_json`, --debug and --plugin."""
    json = click.option(
        "--json", "is_json", is_flag=True, help="One JSON document on standard output, all else on standard error."
    )
    debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    return json(debug(plugin_option(function)))


def out_option(help: str = "The run folder; an interrupted run in it is continued.") -> Callable[[Function], Function]:
    """--out."""
    return click.option("--out", type=click.Path(path_type=Path), help=help)


def data_options(function: Function) -> Function:
    """--data, or --image (repeatable) with --prompt; see `given_data`."""
    data = click.option(
        "--data",
        metavar="DATA",
        help='A file of JSON lines {"id", "image", "prompt"}, `BENCH` or `BENCH:PATH`, or `shapes`, bundled scenes.',
    )
    images = click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Repeatable.")
    prompt = click.option("--prompt", help="What to ask about the image.")
    return data(images(prompt(function)))


def given_data(data: str | None, images: tuple[Path, ...], prompt: str | None, limit: int | None, seed: int) -> Data:
    """What these options stand for. InputError where both ways are taken, or none."""
    if data is not None and (images or prompt is not None):
        raise InputError("Give --data, or --image with --prompt, not both.")
    return single_data(images, prompt) if data is None else find_data(data, limit=limit, seed=seed)


def _option(field: dataclasses.Field[Any], hint: Any, parse: Parse | None) -> Callable[[Any], Any]:
    about = field.metadata
    name = "--" + about.get("option", field.name).replace("_", "-")
    default = None if field.default is dataclasses.MISSING else field.default
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if any(typing.get_origin(kind) is Mapping for kind in kinds):
        return click.option(
            name,
            field.name,
            multiple=True,
            metavar="FIELD=VALUE",
            callback=_fields(about["example"]),
            help=about["help"],
        )
    if bool in kinds:
        return click.option(name, field.name, is_flag=True, help=about["help"])
    return click.option(
        name,
        field.name,
        type=_kind(kinds, about) if parse is None else _Parsed(parse),
        default=default,
        show_default=default is not None,
        metavar=about.get("metavar"),
        help=about["help"],
    )


def _fields(example: str) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], dict[str, Any] | None]:
    """A callback that reads repeated FIELD=VALUE; None without any."""
    return lambda context, parameter, value: parse_fields(value, f"{parameter.opts[0]} {example}") or None


def _kind(kinds: tuple[Any, ...], about: Mapping[str, Any]) -> Any:
    words = [word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
    if words and int in kinds:
        return _Parsed(lambda text: text if text in words else _whole(text, about["least"], words))
    if words:
        return click.Choice(words)
    if int in kinds:
        return click.IntRange(about.get("least"), about.get("most"))
    if float in kinds:
        return click.FloatRange(about.get("above", about.get("least")), min_open="above" in about)
    if (Path in kinds or about.get("is_file")) and not about.get("is_text"):
        return click.Path(path_type=Path)
    return str


def _whole(text: str, least: int, words: list[str]) -> int:
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{text!r} is neither {' nor '.join(words)} nor a whole number from {least} on")
    return int(text)


class _Parsed(click.ParamType[Any]):
    """A value that a function reads."""

    name = "value"

    def __init__(self, parse: Parse) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Common:
    """What every command takes.

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
    """--image (repeatable) and --prompt: one sample from the command line, see `given_sample`."""
    images = click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="Repeatable.")
    prompt = click.option("--prompt", help="What to ask about the image.")
    return images(prompt(function))


def given_sample(images: tuple[Path, ...], prompt: str | None) -> Sample:
    """The sample of these options, its images opened once, so that an unusable one shows before a model loads."""
    single_sample(images, prompt)
    return Sample(prompt=prompt or "", images=tuple(images), id=SINGLE)


method_option = click.option(
    "--method",
    default=None,
    metavar="SPEC",
    callback=known_method,
    help="A method: name, or name:field=value,...",
)

track_option = click.option(
    "--track",
    metavar="NAME[:PROJECT]",
    help="Show progress and figures in trackio, wandb, mlflow or tensorboard (tensorboard:FOLDER).",
)

sinks_option = click.option(
    "--sinks",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The model's sinks, as `sightline sinks` writes them.",
)
