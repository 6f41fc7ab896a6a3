"""Which positions' logits a forward pass computes: those of 15,000 positions times 152,000 words take 9 GB."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from sightline.errors import ModelError
from sightline.models.transformers_api.cache import with_cache
from sightline.models.transformers_api.release import RELEASE


def keeps_logits(model: Any) -> bool:
    """Whether a model's forward can be given the positions (`logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def last_logits(model: Any) -> dict[str, Any]:
    """The option of a forward pass by which the last position's logits alone are computed, where the model has it."""
    return {"logits_to_keep": 1} if keeps_logits(model) else {}


def plain_inputs(model: Any, inputs: Mapping[str, Any], every: bool = False) -> dict[str, Any]:
    """The inputs of one pass without a cache, which computes the last position's logits alone where it can.

    every: those of every position.
    """
    return with_cache({**inputs, "use_cache": False, **({} if every else last_logits(model))}, None, model)


def plain_pass(model: Any, inputs: Mapping[str, Any], every: bool = False) -> Any:
    """What the model's forward gives for `plain_inputs`.

    Raises:
        ModelError: where the model's own code reads what is not there, as a fault of one release.
    """
    try:
        return model(**plain_inputs(model, inputs, every))
    except AttributeError as error:
        if not _is_of_the_model(error):
            raise
        raise ModelError(
            f"The forward of {type(model).__name__} fails by itself in Transformers {RELEASE} ({error}): another "
            "release may run it."
        ) from error


def _is_of_the_model(error: Exception) -> bool:
    """Whether it was raised in a file of the model, and not in what is hooked on it."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and ".modeling_" in str(place.tb_frame.f_globals.get("__name__"))
