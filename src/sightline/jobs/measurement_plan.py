"""What a measurement is set by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError
from sightline.jobs.methods import MethodSpec
from sightline.jobs.models import ModelSource
from sightline.jobs.settings import ModelSettings, setting
from sightline.jobs.sources import Data

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(ModelSettings):
    """How a measurement is made."""

    queries: Literal["generated", "prompt", "all"] = setting(
        "generated",
        "Whose attention is read: that of the rows which predict the answer, of the prompt's text, of all rows.",
    )
    new_tokens: int = setting(32, "Generate at most so many.", least=1)
    sinks: Any = setting(
        None,
        "The model's sinks, as `sightline sinks` writes them, or auto: found first.",
        metavar="FILE",
        is_file=True,
    )
    limit: int | None = setting(None, "Only so many samples, the first.", least=1)
    batch_size: int = setting(1, "Samples in one pass.", least=1)
    maps: int = setting(
        100, "Of so many samples, the first, maps and a small picture are kept for `sightline report`; 0: of none.",
        least=0,
    )  # fmt: skip
    stages: Literal["paired", "thirds"] = setting("paired", "How layers are put together.")
    published: str | None = setting(None, "Print the published figures beside, e.g. llava-1.5-7b.", metavar="NAME")
    retry_failed: bool = setting(False, "Do samples that failed before again.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.published is not None:
            from sightline.probes.dominance import PUBLISHED

            if self.published not in PUBLISHED:
                known = ", ".join(sorted(PUBLISHED))
                raise InputError(f"There is no published row named '{self.published}'; there are {known}.")


@dataclass(frozen=True)
class MeasurementPlan:
    """What is measured: every sample of every model under every method.

    sinks: those of the settings, read: left out of mdi_no_sinks; a method knows them already. about: more settings for
    run.json.
    """

    models: tuple[ModelSource, ...]
    data: Data
    specs: tuple[MethodSpec, ...]
    settings: MeasureSettings
    sinks: Sinks | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def of_run(self) -> dict[str, Any]:
        """All that decides a sample's result, as the run folder records it; stages only put results together."""
        settings = self.settings
        return {
            "models": [model.name for model in self.models],
            **self.data.settings,
            "queries": settings.queries,
            "new_tokens": settings.new_tokens if settings.queries == "generated" else None,
            "layout": settings.layout_text(),
            "sinks": None if self.sinks is None else {"dims": self.sinks.dims, "tau": self.sinks.tau},
            **settings.of_model(),
            **self.about,
        }

    def info(self, world: int) -> dict[str, Any]:
        """Worth keeping; free to differ when the run is continued."""
        names = ("device", "batch_size", "limit", "maps", "stages", "published")
        return {name: getattr(self.settings, name) for name in names} | {"processes": world}
