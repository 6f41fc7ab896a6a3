"""Settings of `impact` beside its study's. Needs no model library."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sightline.jobs.settings import ModelSettings, setting
from sightline.knockout.study_settings import StudySettings

STUDY = tuple(each.name for each in fields(StudySettings))
"""The settings of `impact` that say what is hidden."""


@dataclass(frozen=True, kw_only=True)
class ImpactSettings(ModelSettings):
    """How the model is loaded and the run continued; what is hidden is set by a `Study`."""

    retry_failed: bool = setting(False, "Do prompts that failed before again.")
