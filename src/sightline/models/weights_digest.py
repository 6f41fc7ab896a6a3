"""Which weights something was found in, as a short text that other weights do not have."""

from __future__ import annotations

import hashlib

from sightline.models.anatomy import Anatomy


def weights_digest(anatomy: Anatomy) -> str:
    """Distinguishes other weights from these: of every parameter's shape, and a few numbers of each."""
    digest = hashlib.sha256()
    for name, value in anatomy.model.named_parameters():
        flat = value.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // 16)][:16].float().cpu()
        digest.update(f"{name}{tuple(value.shape)}{[round(float(one), 4) for one in some]}".encode())
    return digest.hexdigest()[:16]
