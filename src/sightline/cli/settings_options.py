"""Options made of the settings of jobs: the one place of their fields is the settings class."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from sightline.text import parse_fields

Function = TypeVar("Function", bound=Callable[..., Any])

Parse = Callable[[str], Any]


def settings_options(
    kind: type[Any],
    parse: Mapping[str, Parse] | None = None,
    without: tuple[str, ...] = (),
    only: tuple[str, ...] | None = None,
) -> Callable[[Function], Function]:
    """Decorator: an option for each field of a settings class, which the command is given by the fields' names.

    parse: for fields whose values are lists or the like, what reads one; it raises ValueError in words.
    only: of these fields alone; without: of all but these.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = [name for part in kind.__mro__ for name in inspect.get_annotations(part) if name in fields]
    hints = typing.get_type_hints(kind)
    chosen = [name for name in dict.fromkeys(own) if name not in without and (only is None or name in only)]
    options = [
        _option(fields[name], hints[name], (parse or {}).get(name))
        for name in chosen
        if not fields[name].metadata.get("hidden")
    ]

    def decorate(function: Function) -> Function:
        for add in reversed(options):
            function = add(function)
        return function

    return decorate


def with_line_breaks(text: str) -> str:
    """Text with its \\n as line breaks, which are hard to type in some shells."""
    return text.replace("\\n", "\n")


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
