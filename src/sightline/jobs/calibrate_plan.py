"""How `calibrate` is set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sightline.jobs.settings import DeviceSettings, ModelSettings, setting

Parts = Literal["all", "instruments", "methods"]

SCENES = 40
"""Scenes of a truth, where none are given; some truths take more or fewer of them."""

QUICK_SCENES = 12
"""The same with quick."""

COMMAND = "calibrate"


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings(DeviceSettings):
    """How instruments are calibrated."""

    quick: bool = setting(False, "A few scenes and methods: minutes on two cores, wide intervals.")
    scenes: int | None = setting(None, "Scenes of each truth; by default 40, 12 with --quick.", least=4)
    parts: Parts = setting("all", "Instruments against the truth, methods on the organisms, or both.")
    retry_failed: bool = setting(False, "Do cases that failed before again.")

    @property
    def count(self) -> int:
        """Scenes of each truth."""
        return self.scenes or (QUICK_SCENES if self.quick else SCENES)

    def of_loading(self) -> ModelSettings:
        """How each model is loaded."""
        return ModelSettings(seed=self.seed, device=self.device, dtype=self.dtype)

    def of_run(self) -> dict[str, Any]:
        """What decides the results of a case; how many cases, models and instruments is free to differ."""
        return {"seed": self.seed, "dtype": self.dtype}

    def info(self) -> dict[str, Any]:
        """Worth keeping; free to differ when the run is continued."""
        return {"device": self.device, "scenes": self.count, "parts": self.parts}
