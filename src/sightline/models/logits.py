"""Which positions' logits a forward pass computes: those of 15,000 positions times 152,000 words take 9 GB."""

from __future__ import annotations

import inspect
from typing import Any


def keeps_logits(model: Any) -> bool:
    """Whether a model's forward can be given the positions (`logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def last_logits(model: Any) -> dict[str, Any]:
    """The option of a forward pass by which the last position's logits alone are computed, where the model has it."""
    return {"logits_to_keep": 1} if keeps_logits(model) else {}
