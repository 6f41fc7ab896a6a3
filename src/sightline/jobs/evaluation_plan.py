"""What an evaluation is set by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sightline.jobs.benchmark_items import BenchmarkItems
from sightline.jobs.methods import MethodSpec
from sightline.jobs.models import ModelSource
from sightline.jobs.settings import ModelSettings, setting

if TYPE_CHECKING:
    from sightline.benchmarks.base import Parser
    from sightline.probes.sinks import Sinks


@dataclass(frozen=True, kw_only=True)
class BenchmarkSettings(ModelSettings):
    """Which items of a benchmark are used, and how their answers are read."""

    limit: int | None = setting(None, "Only so many items, evenly over splits or subtasks, the first of each.", least=1)
    parser: Literal["official", "strict"] = setting(
        "official",
        "How answers are read: as the benchmark's own script does, or without any guess. Free to change later.",
    )
    template: str | None = setting(
        None, "Other words than the official ones, with {question}; \\n begins a line.", option="prompt"
    )
    split: str | None = setting(None, "Only this split, configuration or subtask; several joined by +.")
    synonyms: Path | None = setting(
        None, "CHAIR: the list of objects, in the form of the official synonyms.txt.", metavar="FILE"
    )
    image_list: Path | None = setting(None, "CHAIR: a file that names the images.", metavar="FILE")
    singular: str | None = setting(None, "CHAIR: how words are made singular: script, plain, nltk or pattern.")
    similarity: str | None = setting(None, "AMBER: what forgives a described object: equal words, or vectors too.")
    mode: str | None = setting(None, "MMMU-Pro: direct or cot.")
    metric: str | None = setting(None, "judged: which of the scores that stand in the lines, not the first.")

    def of_bench(self) -> dict[str, Any]:
        """The fields of benchmarks among them."""
        return {name: getattr(self, name) for name in BENCH_FIELDS if getattr(self, name) is not None}


BENCH_FIELDS = ("template", "split", "synonyms", "image_list", "singular", "similarity", "mode", "metric")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(BenchmarkSettings):
    """How an evaluation is made."""

    new_tokens: int | None = setting(None, "Longest answer; by default the benchmark's.", least=1)
    temperature: float | None = setting(
        None, "Of answers that are drawn from all of the vocabulary; by default they are greedy.", above=0, hidden=True
    )
    batch_size: int | Literal["auto"] = setting(
        "auto",
        "Items in one pass; auto: by the free memory. Either is halved when memory does not suffice.",
        least=1,
    )
    sinks: Any = setting(
        None,
        "The model's sinks, as `sightline sinks` writes them, or auto: found first.",
        metavar="FILE",
        is_file=True,
    )
    blind: bool = setting(
        False, "Ask every item also without its image, with a blank one and with another item's: what the image earns."
    )
    controls: bool = setting(
        False, "Add every method's controls: what acts alike without its cause, so that shared gains are not its own."
    )
    baselines: bool = setting(
        False,
        "Add trivial baselines: answers of the first method drawn at temperature 0.5 and 1 (for CHAIR, shorter ones "
        "are computed always).",
    )
    by: str | None = setting(
        None, "Also the scores by this field of the items, as subject or group; free to change later.", metavar="FIELD"
    )
    image_side: int | None = setting(
        None, "Longest side in pixels of images that go to a model behind an address (openai:URL#NAME).", least=1
    )
    retry_failed: bool = setting(False, "Ask items that failed before again.")


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated. sinks: those of the settings, read. about: more settings for run.json."""

    models: tuple[ModelSource, ...]
    benches: tuple[BenchmarkItems, ...]
    specs: tuple[MethodSpec, ...]
    settings: EvaluateSettings
    sinks: Sinks | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parser(self) -> Parser:
        """How answers are read."""
        return self.settings.parser

    def longest_answer(self, items: BenchmarkItems) -> int:
        """New tokens at most."""
        return items.bench.new_tokens if self.settings.new_tokens is None else self.settings.new_tokens

    def of_run(self, items: BenchmarkItems) -> dict[str, Any]:
        """All that decides an answer and does not stand in its line: a folder takes more items and methods later."""
        return {
            "bench": items.name,
            "new_tokens": self.longest_answer(items),
            "temperature": self.settings.temperature,
            "layout": self.settings.layout_text(),
            **self.settings.of_model(),
            **self.about,
        }

    def info(self, items: BenchmarkItems, world: int) -> dict[str, Any]:
        """Worth keeping; free to differ when the run is continued."""
        return {
            "device": self.settings.device,
            "batch_size": self.settings.batch_size,
            "limit": self.settings.limit,
            "processes": world,
            "models": [model.name for model in self.models],
            "methods": [spec.name for spec in self.specs],
            "path": items.path,
            "fields": items.fields,
            "items": len(items.ids),
        }


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(BenchmarkSettings):
    """Which answers are scored, and how."""

    field: str | None = setting(
        None, "Where the model's words stand in a line; without, found by name.", metavar="NAME"
    )
    method: str | None = setting(None, "Whose answers, in a run folder with several methods.", metavar="SPEC")
    model: str | None = setting(None, "Whose answers, in a run folder with several models.")
