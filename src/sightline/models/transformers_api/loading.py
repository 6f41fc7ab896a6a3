"""Configurations, auto classes and processors as a model is loaded, and options of its training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def commit_of(config: Any) -> str | None:
    """The commit of the hub that a configuration was read from, where it was."""
    return getattr(config, "_commit_hash", None)


def generating_classes(auto: Any, config: Any) -> list[str]:
    """Names of the model classes that an auto class has for a configuration; none where it does not know it."""
    mapping = auto._model_mapping
    found = mapping.get(type(config), ())
    return [kind.__name__ for kind in (found if isinstance(found, list | tuple) else (found,))]


def processor_settings(path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder says of its processor."""
    from transformers import ProcessorMixin

    return dict(ProcessorMixin.get_processor_dict(path, **options)[0])


def processor_class(name: str | None, config: Any) -> Any:
    """The processor class of this name, else the one that goes with the configuration."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    return getattr(transformers, name) if name and hasattr(transformers, name) else PROCESSOR_MAPPING[type(config)]


def best_resolution(size: tuple[int, int], resolutions: list[Any]) -> tuple[int, int]:
    """The (height, width) into which processors of tiles fit an image of this (height, width)."""
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution(size, resolutions)
    return int(height), int(width)


CHECKPOINTING = "_gradient_checkpointing_func"
"""The attribute of a decoder layer through which it is run when its activations are computed again."""


def checkpointing_options(is_on: bool, names: Collection[str]) -> dict[str, Any]:
    """Options of `TrainingArguments`, whose fields are `names`, by which activations are computed again."""
    name = "activation_checkpointing" if "activation_checkpointing" in names else "gradient_checkpointing"
    return {name: is_on, f"{name}_kwargs": {"use_reentrant": False} if is_on else None}
