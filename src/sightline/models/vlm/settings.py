"""How a model is loaded, fed and run beside what its folder says: one place for these settings and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sightline.errors import InputError
from sightline.text import first_sentence, nearest, shortened

ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Kernels of attention that Transformers knows; which of them a model has shows when it is loaded."""

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Ways of accelerate to spread a model."""


@dataclass(frozen=True)
class ModelOptions:
    """Settings of a model beside name, dtype and device.

    allow_missing  load a checkpoint that lacks weights, which are then random
    attention      the kernel of attention, one of ATTENTION; by default the model's own choice
    device_map     "auto" spreads a model over several GPUs and the main memory (accelerate); "balanced", "sequential"
    min_pixels     pictures are enlarged to at least so many pixels, where the processor has such a bound
    max_pixels     pictures are reduced to at most so many pixels, where the processor has such a bound
    processor      fields of the processor and their values, as {"do_pan_and_scan": True}
    generation     fields of the generation configuration that are set anew, as {"repetition_penalty": 1.0}
    chat           fields for the chat template, as {"enable_thinking": False}
    """

    allow_missing: bool = False
    attention: str | None = None
    device_map: str | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    processor: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    chat: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.attention is not None and self.attention not in ATTENTION:
            raise InputError(f"{self.attention!r} is no kernel of attention: give {', '.join(ATTENTION)}.")
        if self.device_map is not None and self.device_map not in ("auto", "balanced", "balanced_low_0", "sequential"):
            raise InputError(
                f"{self.device_map!r} is no device map: give auto, balanced, balanced_low_0 or sequential."
            )
        for name in ("min_pixels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} is {value!r}: give a whole number of pixels, at least 1.")
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise InputError(f"min_pixels is {self.min_pixels} and max_pixels {self.max_pixels}: give them in order.")

    def record(self) -> dict[str, Any]:
        """What a run records: the settings that differ from their defaults."""
        plain = ModelOptions()
        kept = {name: value for name, value in vars(self).items() if value != getattr(plain, name)}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


def model_options(fields: Mapping[str, Any]) -> ModelOptions:
    """The options of keyword arguments; InputError for one that there is not."""
    known = list(vars(ModelOptions()))
    for name in fields:
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise InputError(f"A model has no setting {name}: {hint}")
    return ModelOptions(**fields)


def processor_options(processor: Any, options: ModelOptions) -> dict[str, Any]:
    """Keyword arguments for each call of the processor, by the part that takes them.

    Raises:
        InputError: for a field that the processor has not.
    """
    parts = {
        f"{kind}s_kwargs": (part, _fields_of(part))
        for kind in ("image", "video")
        if (part := getattr(processor, f"{kind}_processor", None)) is not None
    }
    bounds = {name: value for name in ("min_pixels", "max_pixels") if (value := getattr(options, name)) is not None}
    found: dict[str, dict[str, Any]] = {}
    for name, value in options.processor.items():
        takers = [key for key, (_, known) in parts.items() if name in known]
        if not takers:
            known = sorted(set().union(*(fields for _, fields in parts.values())))
            near = nearest(name, known)
            hint = f"did you mean {near[0]}?" if near else f"its fields are {', '.join(known) or 'none'}."
            raise InputError(f"The processor ({type(processor).__name__}) has no field {name}: {shortened(hint, 400)}")
        for key in takers:
            found.setdefault(key, {})[name] = value
    for key, fields in found.items():
        _try(parts[key][0], key, fields)
    if bounds:
        if "size" in options.processor:
            raise InputError(
                "min_pixels and max_pixels set the processor's size, which is given too: give one of them."
            )
        found.setdefault("images_kwargs", {}).update(
            _bounded(processor, *parts.get("images_kwargs", (None, set())), bounds)
        )
    return found


def _bounded(processor: Any, part: Any, known: set[str], bounds: Mapping[str, int]) -> dict[str, Any]:
    """The bounds on pixels as the image processor takes them."""
    size = getattr(part, "size", None)
    least, most = getattr(size, "shortest_edge", None), getattr(size, "longest_edge", None)
    if {"patch_size", "merge_size"} <= known and least and most:  # edges in name, pixels in fact: the Qwen's
        bounded = {"shortest_edge": bounds.get("min_pixels", least), "longest_edge": bounds.get("max_pixels", most)}
        if bounded["shortest_edge"] > bounded["longest_edge"]:
            name, other = ("max_pixels", "min_pixels") if "max_pixels" in bounds else ("min_pixels", "max_pixels")
            raise InputError(f"{name} crosses the model's own {other} (it takes {least} to {most}): give {other} too.")
        return {"size": bounded}
    if not set(bounds) <= known:
        raise InputError(
            f"The processor ({type(processor).__name__}) has no bound on pixels: its pictures have sizes of their own; "
            "set another of its fields by --processor FIELD=VALUE."
        )
    return dict(bounds)


def _try(part: Any, key: str, fields: dict[str, Any]) -> None:
    """Has a small picture processed with these values together; InputError where that fails."""
    if key != "images_kwargs":
        return
    from PIL import Image

    picture = Image.new("RGB", (64, 48))
    try:
        part(images=picture, return_tensors="pt")
    except Exception:  # a processor that wants more than a picture is tried by the first sample
        return
    try:
        part(images=picture, return_tensors="pt", **fields)
    except Exception as error:  # each processor checks its fields in its own way
        given = shortened(", ".join(f"{name}={value!r}" for name, value in fields.items()), 200)
        raise InputError(
            f"The processor ({type(part).__name__}) does not take {given} ({first_sentence(error)})."
        ) from error


def _fields_of(part: Any) -> set[str]:
    """What a part of a processor takes about pictures."""
    known = set(getattr(getattr(part, "valid_kwargs", None), "__annotations__", {}))
    return known - {"return_tensors", "input_data_format", "device", "disable_grouping", "return_metadata"}
