"""What a model's forward does to its logits behind the head."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


def finished(model: nn.Module, config: Any, logits: Float[Tensor, "*rows words"]) -> Float[Tensor, "*rows words"]:
    """The head's logits as the model's forward gives them: scaled, capped, and without words that it never writes.

    Args:
        model: whose forward it is; one with a vision tower may leave out what its decoder does alone.
        config: of the text decoder.
    """
    factor = _factor(model, config)
    logits = logits * factor if factor != 1 else logits
    cap = getattr(config, "final_logit_softcapping", None)
    logits = torch.tanh(logits / cap) * cap if cap else logits
    never = getattr(getattr(getattr(model, "model", None), "vocabulary_mapping", None), "image_tokens", None)
    return logits if never is None else logits.index_fill(-1, torch.as_tensor(never).to(logits.device), NEVER)


NEVER = torch.finfo(torch.float32).min
"""The logit of a word that a model never writes."""


def _factor(model: nn.Module, config: Any) -> float:
    """Cohere's stands on the class that scales by it; the others' in the configuration."""
    own = getattr(model, "logit_scale", None)
    if isinstance(own, int | float):
        return float(own)
    scaling = float(getattr(config, "logits_scaling", None) or 1)
    return scaling if str(getattr(config, "model_type", "")).startswith("hyperclovax") else 1 / scaling
