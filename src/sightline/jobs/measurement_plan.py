"""What a measurement is set by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sightline.errors import InputError
from sightline.jobs.methods import MethodSpec
from sightline.jobs.models import ModelSource
from sightline.jobs.settings import ModelSettings, setting
from sightline.probes import dominance
from sightline.probes.dominance.published import PUBLISHED

if TYPE_CHECKING:
    from sightline.jobs.sources import Data
    from sightline.probes.sinks import Sinks


QUERY_SETS = ("generated", "prompt", "all")
"""Names of query sets; from Python also positions of the prompt, or a function that chooses tokens."""


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(ModelSettings):
    """How a measurement is made."""

    queries: Any = setting(
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
    batch_size: int | Literal["auto"] = setting(
        "auto", "Samples in one pass; auto: by the free memory. Either is halved when memory does not suffice.", least=1
    )
    maps: int = setting(
        100, "Of so many samples, the first, maps and a small picture are kept for `sightline report`; 0: of none.",
        least=0,
    )  # fmt: skip
    metrics: Any = setting(
        None, "Metrics of one's own: functions of a row's weights and its layout, by name.", hidden=True
    )
    heads: bool = setting(False, "Also keep each head's masses: rows of `to_pandas()`, heads in samples.jsonl.")
    by: str | None = setting(
        None, "Also the stages by this field of the data, as subject or group; free to change later.", metavar="FIELD"
    )
    reliance: bool = setting(False, "Also predict how often answers follow the picture; two passes a sample.")
    stages: Literal["paired", "thirds"] = setting("paired", "How layers are put together.")
    published: str | None = setting(None, "Print the published figures beside, e.g. llava-1.5-7b.", metavar="NAME")
    retry_failed: bool = setting(False, "Do samples that failed before again.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.queries, str) and self.queries not in QUERY_SETS:
            raise InputError(f"queries is {self.queries!r}: give {' or '.join(QUERY_SETS)}.")
        if self.published is not None and self.published not in PUBLISHED:
            known = ", ".join(sorted(PUBLISHED))
            raise InputError(f"There is no published row named '{self.published}'; there are {known}.")


@dataclass(frozen=True)
class MeasurementPlan:
    """What is measured: every sample of every model under every method.

    sinks: those of the settings, read: left out of mdi_no_sinks; a method knows them already
    about: more settings for run.json
    """

    models: tuple[ModelSource, ...]
    data: Data
    specs: tuple[MethodSpec, ...]
    settings: MeasureSettings
    sinks: Sinks | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def query_set(self) -> str:
        """The name of whose attention is read."""
        queries = self.settings.queries
        if isinstance(queries, str):
            return queries
        return str(dominance.name_of(dominance.check_queries(queries)))

    @property
    def is_answering(self) -> bool:
        """Whether the answer's rows are read, so that there has to be one."""
        return self.settings.queries == "generated" or callable(self.settings.queries)

    def of_run(self) -> dict[str, Any]:
        """All that decides a sample's result, as the run folder records it; stages only put results together."""
        settings = self.settings
        return {
            "models": [model.name for model in self.models],
            **self.data.settings,
            "queries": self.query_set,
            "new_tokens": settings.new_tokens if self.is_answering else None,
            "layout": settings.layout_text(),
            "sinks": None if self.sinks is None else {"dims": self.sinks.dims, "tau": self.sinks.tau},
            **({"metrics": list(settings.metrics)} if settings.metrics else {}),
            **({"heads": True} if settings.heads else {}),
            **settings.of_model(),
            **({"reliance": True} if settings.reliance else {}),
            **self.about,
        }

    def info(self, world: int) -> dict[str, Any]:
        """Worth keeping; free to differ when the run is continued."""
        names = ("device", "batch_size", "limit", "maps", "stages", "published", "by")
        return {name: getattr(self.settings, name) for name in names} | {"processes": world}
