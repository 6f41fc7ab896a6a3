"""Models that are loaded once a process, however many commands and jobs of the tests name them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

BUNDLED = ("tiny-llava", "tiny-llava-early", "tiny-sinks")

_KEPT: dict[str, Any] = {}


def load_once(patch: pytest.MonkeyPatch, names: Collection[str]) -> None:
    """From now on jobs load each of these models once for the same settings; a training, which changes it, anew."""
    import sightline.jobs.models as jobs
    from sightline.jobs.settings import ModelSettings

    load = jobs.load_model

    def once(name: str, settings: ModelSettings) -> Any:
        if name not in names or type(settings) is ModelSettings or settings.quantize is not None:
            return load(name, settings)
        key = f"{name} {(settings.device, settings.dtype, settings.layout, settings.of_loading())}"
        if key not in _KEPT:
            _KEPT[key] = load(name, settings)
        return _KEPT[key]

    patch.setattr(jobs, "load_model", once)
