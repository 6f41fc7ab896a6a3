"""Where a decoder turns positions into rotary embeddings, which it hands to all its layers."""

from __future__ import annotations

from torch import nn


def rotary_of(decoder: nn.Module) -> nn.Module | None:
    """The decoder's own module for it; None where positions enter otherwise, or layer by layer."""
    found = getattr(decoder, "rotary_emb", None)
    return found if isinstance(found, nn.Module) else None
