"""What every job is set by: frozen dataclasses, the only place of their fields.

A field's metadata say how it is checked and how the command line spells it; `sightline.cli.options` makes options of
them, and `job` gives a function's signature them as keywords.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from sightline.errors import InputError
from sightline.settings import setting

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["4bit", "8bit"]
Attention = Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"]
DeviceMap = Literal["auto", "balanced", "balanced_low_0", "sequential"]

LARGEST_SEED = 2**31 - 1

__all__ = ["DeviceSettings", "ModelSettings", "Settings", "job", "setting", "settings_of"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all: values are checked when one is made. Raises InputError, naming the field and what it takes."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check(field, hints[field.name], getattr(self, field.name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceSettings(Settings):
    """The seed of everything that is drawn, and where and in what numbers models are."""

    seed: int = setting(0, "Of everything that is drawn.", least=0, most=LARGEST_SEED)
    device: str = setting(
        "auto",
        "auto, cpu, cuda, cuda:1.",
        pattern=r"auto|cpu|mps|(cuda|xpu|npu)(:\d+)?",
        wanted="auto, cpu, cuda, cuda:1, mps, xpu or npu",
    )
    dtype: Dtype = setting("auto", "Of the weights.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSettings(DeviceSettings):
    """How models are loaded."""

    quantize: Quantize | None = setting(None, "Load weights through bitsandbytes.")
    layout: Path | None = setting(None, "Where text and image stand, for a model of unknown kind.", metavar="FILE")
    attention: Attention | None = setting(None, "The kernel of attention; by default the model's own choice.")
    device_map: DeviceMap | None = setting(None, "Spread the model over several GPUs and the main memory.")
    allow_missing: bool = setting(False, "Load a checkpoint that is not whole; what is missing is random.")
    min_pixels: int | None = setting(None, "Enlarge pictures to so many pixels, where the processor can.", least=1)
    max_pixels: int | None = setting(None, "Reduce pictures to so many pixels, where the processor can.", least=1)
    processor_fields: Mapping[str, Any] | None = setting(
        None, "A field of the processor. Repeatable.", option="processor", example="do_pan_and_scan=true"
    )
    generation: Mapping[str, Any] | None = setting(
        None, "A field of the generation configuration. Repeatable.", example="repetition_penalty=1"
    )
    chat: Mapping[str, Any] | None = setting(
        None, "A field of the chat template. Repeatable.", example="enable_thinking=false"
    )

    def of_model(self) -> dict[str, Any]:
        """What run.json records of them."""
        return {"seed": self.seed, "dtype": self.dtype, "quantize": self.quantize, **self.of_loading()}

    def of_loading(self) -> dict[str, Any]:
        """Those of `sightline.load` beside dtype, device, quantisation and layout that are given."""
        names = ("attention", "device_map", "allow_missing", "min_pixels", "max_pixels", "generation", "chat")
        given = {name: getattr(self, name) for name in names} | {"processor": self.processor_fields}
        return {name: value for name, value in given.items() if value}

    def layout_text(self) -> str | None:
        """The layout file's text; InputError where it cannot be read."""
        if self.layout is None:
            return None
        try:
            return Path(self.layout).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", "not text")
            raise InputError(f"The layout file {self.layout} cannot be read ({reason}).") from error


SettingsType = TypeVar("SettingsType", bound=Settings)
Function = TypeVar("Function", bound=Callable[..., Any])


def job(*kinds: type[Any]) -> Callable[[Function], Function]:
    """Decorator: a function whose `**fields` are those of settings classes, in its signature and its docstring."""

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {each.name for each in kept}
        found: dict[str, inspect.Parameter] = {}
        lines: list[str] = []
        for kind in kinds:
            hints = typing.get_type_hints(kind)
            for field in dataclasses.fields(kind):
                if field.name in taken or field.name in found:
                    continue
                found[field.name] = inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
                )
                lines.append(f"    {field.name}: {field.metadata['help']}")
        function.__signature__ = own.replace(parameters=[*kept, *found.values()])  # type: ignore[attr-defined]
        function.__doc__ = f"{inspect.getdoc(function)}\n\nSettings:\n" + "\n".join(lines)
        return function

    return decorate


def settings_of(kind: type[SettingsType], fields: Mapping[str, Any]) -> SettingsType:
    """The settings of keyword arguments; InputError for one that there is not."""
    known = [field.name for field in dataclasses.fields(kind)]
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}."
            raise InputError(f"There is no setting {name}: {hint}")
    return kind(**fields)


def _check(field: dataclasses.Field[Any], hint: Any, value: Any) -> None:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return
    words = [word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
    if isinstance(value, str) and value in words:
        return
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            if len(kinds) - (type(None) in kinds) == 1:
                raise InputError(f"{field.name} is {value!r}: give {' or '.join(map(str, words))}.")
        elif kind in (int, float):
            _check_number(field, kind, value, words)
        elif typing.get_origin(kind) is Mapping and not isinstance(value, Mapping):
            raise InputError(f"{field.name} is {value!r}: give a mapping of fields to values.")
        elif kind is bool and not isinstance(value, bool):
            raise InputError(f"{field.name} is {value!r}: give True or False.")
        elif kind is str and len(kinds) - (type(None) in kinds) == 1:
            if not isinstance(value, str):
                raise InputError(f"{field.name} is {value!r}: give text.")
            if "pattern" in field.metadata and not re.fullmatch(field.metadata["pattern"], value):
                raise InputError(f"{value!r} is no {field.name}: give {field.metadata['wanted']}.")


def _check_number(field: dataclasses.Field[Any], kind: type, value: Any, words: list[Any]) -> None:
    is_right = not isinstance(value, bool) and (
        hasattr(value, "__index__") if kind is int else isinstance(value, int | float)
    )
    about = field.metadata
    least, most, above = about.get("least"), about.get("most"), about.get("above")
    if is_right and (least is None or value >= least) and (most is None or value <= most):
        if above is None or value > above:
            return
        raise InputError(f"{field.name} is {value}: give a number above {above}.")
    wanted = f"{', '.join(map(str, words))} or " * bool(words) + ("a whole number" if kind is int else "a number")
    bounds = "" if least is None else f" from {least} on" if most is None else f" from {least} to {most}"
    raise InputError(f"{field.name} is {value!r}: give {wanted}{bounds}.")
