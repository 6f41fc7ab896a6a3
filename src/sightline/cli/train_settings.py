"""The settings of `sightline train`, of its options, a file and a preset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sightline.errors import InputError

if TYPE_CHECKING:
    from sightline.training.settings import TrainSettings

Function = TypeVar("Function", bound=Callable[..., Any])


def chosen_options(function: Function) -> Function:
    """The options of `chosen_settings`."""
    adders = [
        click.option("--config", type=click.Path(path_type=Path), help="A YAML file of settings."),
        click.option("--preset", help="Settings to start from: labels (the default), seed (as published), or shapes."),
        click.option("--set", "given", multiple=True, metavar="FIELD=VALUE", help="One setting. Repeatable."),
        click.option("--steps", type=click.IntRange(1), help="Optimiser steps."),
        click.option("--batch-size", type=click.IntRange(1), help="Samples a forward pass, on each process."),
        click.option("--learning-rate", type=float),
        click.option("--lora", is_flag=True, help="Train low-rank adapters on the decoder."),
        click.option("--qlora", is_flag=True, help="The same on 4-bit weights; needs a CUDA GPU."),
        click.option("--no-grounding", is_flag=True, help="The same steps on the language loss alone."),
        click.option("--no-eval", is_flag=True, help="No evaluation before, between and after."),
    ]
    for add in reversed(adders):
        function = add(function)
    return function


def chosen_settings(
    data: str,
    seed: int,
    *,
    config: Path | None,
    preset: str | None,
    given: tuple[str, ...],
    lora: bool,
    qlora: bool,
    no_grounding: bool,
    no_eval: bool,
    **options: Any,
) -> TrainSettings:
    """Those of the preset, over them those of the file, over them --set and the options."""
    from sightline.training.settings import read_settings, training_settings

    if lora and qlora:
        raise InputError("Give --lora or --qlora, not both.")
    settings = training_settings(None, data) if config is None and preset is None else read_settings(config, preset)
    values: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    values |= {"method": "qlora" if qlora else "lora"} if lora or qlora else {}
    values |= {"eval_limit": 0} if no_eval else {}
    source = click.get_current_context().get_parameter_source("seed")
    if source is not None and source.name != "DEFAULT":
        values["seed"] = seed
    settings = settings.with_values(_pairs(given), "--set").with_values(values)
    return settings.without_grounding() if no_grounding else settings


def _pairs(given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set {text} is no FIELD=VALUE pair: write for example --set margin=0.3.")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise InputError(f"--set {text} has a value that cannot be read: write it as in YAML.") from None
    return found
