"""The settings of a training: every field, from a YAML file, a preset or by hand."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from sightline.errors import InputError
from sightline.files.yaml import read_yaml
from sightline.methods.base import setting
from sightline.probes.grounding.scores import Grounding
from sightline.training.losses import GroundingLoss

DEFAULT_PRESET = "labels"
"""The form that helped, as measured: docs/grounding_evidence.md."""


@dataclass(frozen=True)
class TrainSettings:
    """All that decides what a training does to a model, beside the model and the data.

    Raises:
        InputError: for a value out of range, naming the field.
    """

    # The loss
    loss: Literal["margin", "bce", "mse", "none"] = setting("margin", "grounding term: margin, bce, mse or none")
    kind: Literal["similarity", "attention", "learned"] = setting("similarity", "how a word is scored")
    layers: str = setting("last4", "layers scored: last4, all, or indices as 28+29+30+31")
    top: int = setting(1, "similarity: mean over so many closest patches")
    projection: Literal["none", "linear"] = setting("none", "learned linear map before the cosine, per layer")
    renormalise: bool = setting(False, "attention: divide by the attention that the image gets")
    detach_image: bool = setting(False, "keep the grounding gradient from the image features")
    margin: float = setting(0.5, "cosine that grounded words are pushed above, words labelled 0 below")
    weight: float = setting(0.5, "lambda of the grounding term")
    contrast_weight: float = setting(0.1, "lambda of the contrast with negative captions")
    contrast_margin: float = setting(0.5, "cosine by which grounded words shall lie above wrong ones")
    temperature: float = setting(0.1, "bce: the cosine difference worth one logit")
    negatives: Literal["both", "contrast", "labels", "none"] = setting(
        "contrast", "what negative captions are for: the contrast, labelled words of the grounding term, both, nothing"
    )
    # What is trained
    method: Literal["full", "lora", "qlora"] = setting("full", "all weights, or low-rank adapters on (4-bit) weights")
    vision_tower: bool = setting(False, "train the vision tower too")
    projector: bool = setting(True, "train the projector between tower and language model")
    lora_rank: int = setting(16, "rank of the adapters")
    lora_alpha: float = setting(32.0, "scale of the adapters, divided by their rank")
    lora_dropout: float = setting(0.0, "dropout before the adapters, 0 to below 1")
    # How
    steps: int = setting(0, "optimiser steps; 0: by epochs")
    epochs: float = setting(3.0, "passes over the data where steps is 0")
    batch_size: int = setting(4, "samples a step and process; long ones go in several passes")
    accumulation: int = setting(1, "times so many samples a step")
    learning_rate: float = setting(2e-5, "of AdamW, at its highest")
    weight_decay: float = setting(0.01, "of AdamW, on matrices alone")
    warmup: int = setting(0, "steps over which the rate rises")
    schedule: Literal["linear", "cosine", "constant"] = setting("linear", "how the rate falls to zero, or stays")
    clip: float = setting(1.0, "largest norm of the gradient; 0: not clipped")
    bf16: bool = setting(False, "compute in bfloat16, weights as they are loaded")
    checkpointing: bool = setting(False, "gradient checkpointing: less memory, a second forward pass")
    workers: int = setting(0, "processes that read images")
    seed: int = setting(0, "of everything drawn at random")
    # On the way
    log_steps: int = setting(10, "steps between lines of log.jsonl")
    save_steps: int = setting(100, "steps between checkpoints; 0: none but at the end")
    eval_steps: int = setting(0, "steps between evaluations; 0: before and after alone")
    eval_limit: int = setting(60, "items of each benchmark in an evaluation; 0: no evaluation")
    eval_benches: tuple[str, ...] = setting(("shapes-pope", "shapes-chair"), "benchmarks of an evaluation")
    keep: Literal["last", "best"] = setting("last", "which weights are the result, best by the last benchmark")
    report_to: Literal["none", "trackio", "wandb", "tensorboard"] = setting("none", "where losses are sent as well")

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            hint = _hints()[name]
            object.__setattr__(self, name, _checked(name, value, hint))
        ranges = {
            "steps": (0, None), "epochs": (0, None), "batch_size": (1, None), "accumulation": (1, None),
            "learning_rate": (0, None), "weight_decay": (0, None), "warmup": (0, None), "clip": (0, None),
            "workers": (0, None), "seed": (0, 2**31 - 1), "log_steps": (1, None), "save_steps": (0, None),
            "eval_steps": (0, None), "eval_limit": (0, None), "lora_rank": (1, None), "lora_alpha": (0, None),
            "lora_dropout": (0, 0.999),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                wanted = f"{low} to {high}" if high is not None else f"at least {low}"
                raise InputError(f"{name} is {value} in the training's settings: give {wanted}.")
        if not self.steps and not self.epochs:
            raise InputError("The training has neither steps nor epochs: give one of them.")
        if self.negatives in ("none", "labels") and self.contrast_weight and self.loss == "none":
            raise InputError("There is nothing to ground: give a loss, or negatives for the contrast.")
        self.grounding(), self.grounding_loss()

    def grounding(self) -> Grounding:
        """How words are scored."""
        names = ("layers", "kind", "top", "projection", "renormalise", "detach_image")
        return Grounding(**{name: getattr(self, name) for name in names})

    def grounding_loss(self) -> GroundingLoss:
        """The terms beside the language loss."""
        return GroundingLoss(
            kind=self.loss,
            margin=self.margin,
            weight=self.weight,
            contrast_weight=self.contrast_weight if self.negatives in ("both", "contrast") else 0.0,
            contrast_margin=self.contrast_margin,
            temperature=self.temperature,
            has_negatives=self.negatives in ("both", "labels"),
        )

    @property
    def has_grounding(self) -> bool:
        """Whether any term stands beside the language loss."""
        return self.has_ground_term or self.needs_contrast

    @property
    def has_ground_term(self) -> bool:
        """Whether words are pushed over a margin."""
        return self.loss != "none" and self.weight > 0

    @property
    def needs_contrast(self) -> bool:
        """Whether negative captions are contrasted with true ones."""
        return self.negatives in ("both", "contrast") and self.contrast_weight > 0

    @property
    def needs_negatives(self) -> bool:
        """Whether negative captions run through the model."""
        return self.needs_contrast or (self.has_ground_term and self.negatives in ("both", "labels"))

    def without_grounding(self) -> TrainSettings:
        """The same steps on the language loss alone."""
        return dataclasses.replace(self, loss="none", negatives="none", contrast_weight=0.0)

    def with_values(self, values: Mapping[str, Any], where: str = "the settings") -> TrainSettings:
        """These settings, some fields otherwise.

        Raises:
            InputError: for a field that there is not, or a value of another kind.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in values:
            if name not in known:
                close = get_close_matches(str(name), known, 1, 0.6)
                hint = f"did you mean {close[0]}?" if close else f"the fields are {', '.join(known)}."
                raise InputError(f"There is no field '{name}' in {where}: {hint}")
        return dataclasses.replace(self, **{str(name): value for name, value in values.items()})


def _hints() -> dict[str, Any]:
    return typing.get_type_hints(TrainSettings)


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value as its field's type; YAML reads 2e-5 as text, and 3 where 3.0 is meant."""
    wrong = InputError(f"{name} is {value!r} in the training's settings: {_wanted(hint)} is expected.")
    if typing.get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in typing.get_args(hint):
            raise wrong
        return value
    if typing.get_origin(hint) is tuple:
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, list | tuple) or not all(isinstance(entry, str) for entry in entries):
            raise wrong
        return tuple(entries)
    if hint is bool or isinstance(value, bool):
        if hint is not bool or not isinstance(value, bool):
            raise wrong
        return value
    if hint is str and isinstance(value, int):  # a single layer
        return str(value)
    try:
        found = hint(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):  # of an infinity, as of text, there is no whole number
        found = None
    is_endless = hint is float and found is not None and not math.isfinite(found)
    is_cut = hint is int and isinstance(value, float) and found != value
    if found is None or is_endless or is_cut or (hint is str and not isinstance(value, str)):
        raise wrong
    return found


def _wanted(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(typing.get_args(hint))
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(hint, "a list of names")


def preset_names() -> list[str]:
    """The presets that are packaged."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


_PRESETS = Path(__file__).parent / "presets"


def read_settings(config: Path | None = None, preset: str | None = None) -> TrainSettings:
    """The settings of a preset (`labels` by default), and over them those of a YAML file.

    A file may name the preset it starts from under `preset`.

    Raises:
        InputError: for an unknown preset or field, a value of another kind, and a file that is missing or no YAML.
    """
    values = {} if config is None else read_yaml(config)
    named = values.pop("preset", None)
    name = preset or named or DEFAULT_PRESET
    if name not in preset_names():
        raise InputError(f"There is no preset {name!r}: give one of {', '.join(preset_names())}.")
    file = _PRESETS / f"{name}.yaml"
    settings = TrainSettings().with_values(read_yaml(file), f"the preset {name}")
    return settings if config is None else settings.with_values(values, str(config))


def training_settings(given: TrainSettings | str | Path | None, data: Any) -> TrainSettings:
    """Those of an object, a file or a preset; by default those that suit the data."""
    if isinstance(given, TrainSettings):
        return given
    if given is None:
        return read_settings(None, "shapes" if data == "shapes" else None)
    is_file = isinstance(given, Path) or Path(given).suffix in (".yaml", ".yml")
    return read_settings(Path(given), None) if is_file else read_settings(None, str(given))
