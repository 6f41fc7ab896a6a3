"""What a reproduction is set by: a published table, and what the user has in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import InputError
from sightline.jobs.benchmark_items import is_bench
from sightline.jobs.methods import NONE, MethodSpec
from sightline.jobs.settings import ModelSettings, setting
from sightline.jobs.sources import SHAPES
from sightline.methods.registry import find_method, takes_sinks
from sightline.probes import sinks as sink_probes
from sightline.published import Reproduction

if TYPE_CHECKING:
    from sightline.probes.sinks import Sinks


@dataclass(frozen=True, kw_only=True)
class ReproduceSettings(ModelSettings):
    """What stands in place of the published model and data; None leaves what the table says."""

    model: str | None = setting(None, "Another model than the published one: a bundled name, a hub name or a folder.")
    data: str | Path | None = setting(
        None,
        "Where the official data stand, or the file that the table asks for; to try it, another benchmark.",
        metavar="DATA",
        is_text=True,
    )
    image_list: Path | None = setting(None, "CHAIR: the images to describe.", metavar="FILE")
    synonyms: Path | None = setting(None, "CHAIR: the list of objects.", metavar="FILE")
    sinks: Any = setting(None, "The model's sinks, as `sightline sinks` writes them.", metavar="FILE", is_file=True)
    limit: int | None = setting(None, "Only so many items.", least=1)
    batch_size: int | None = setting(None, "Samples in one pass; by default as the table is run best.", least=1)
    retry_failed: bool = setting(False, "Do samples that failed before again.")


@dataclass(frozen=True)
class ReproductionPlan:
    """A published table as it is run. sinks: those of the settings, read."""

    table: Reproduction
    settings: ReproduceSettings
    sinks: Sinks | None = None

    @property
    def model_name(self) -> str:
        """The model that is run; InputError where none is named anywhere."""
        name = self.settings.model or self.table.model
        if name is None:
            raise InputError(
                f"{self.table.name} has no model of its own that can be loaded by name: give --model with a folder or "
                "hub name in Transformers' own format."
            )
        return name

    @property
    def most(self) -> int | None:
        """Items at most."""
        return self.table.limit if self.settings.limit is None else self.settings.limit

    def source(self) -> str:
        """The data as `--data` of `measure` and `--bench` of `eval` take them."""
        bench = self.table.bench
        if self.settings.data is None:
            if bench is None or self.table.files is not None:
                raise InputError(f"{self.table.name} needs --data. {self.table.data}")
            return bench
        given = str(self.settings.data)
        if bench is None or (self.table.kind == "measure" and Path(given).suffix == ".jsonl"):
            return given
        is_named = not Path(given).exists() and (given == SHAPES or is_bench(given))
        return given if is_named else f"{bench}:{given}"

    def fields(self) -> dict[str, Any]:
        """Of the benchmark; another one than the table's has its own."""
        if self.table.bench is None or self.source().partition(":")[0] != self.table.bench:
            return {}
        chosen = {"image_list": self.settings.image_list, "synonyms": self.settings.synonyms}
        return {**self.table.fields, **{name: value for name, value in chosen.items() if value is not None}}

    def deviations(self, done: int, total: int | None, failed: int) -> list[str]:
        """Why this run is not the published one, a sentence each; nothing about what its file says differs anyway."""
        table, found = self.table, []
        if table.model is None:
            found.append(f"Whether {self.model_name} holds the published weights is not known here.")
        elif self.model_name.rstrip("/").rsplit("/", 1)[-1] != table.model.rsplit("/", 1)[-1]:
            found.append(f"The model is {self.model_name}, and the published one {table.model}.")
        if table.bench is not None and self.source().partition(":")[0] != table.bench:
            found.append(f"The data are {self.source()}, and the published ones {table.bench}.")
        if table.files is not None and not self._has_files(table.files):
            found.append(f"The data are not those of {table.files}*, which the published ones are.")
        wanted = total if table.limit is None or total is None else min(total, table.limit)
        if wanted is not None and done < wanted:
            found.append(f"Only {done} of {wanted} items were run.")
        elif wanted is None and self.settings.limit is not None:
            found.append(f"Only the first {done} samples were run.")
        if self.settings.quantize is not None:
            found.append(f"The weights are quantized ({self.settings.quantize}).")
        if failed:
            found.append(f"{failed} samples failed.")
        return found

    def _has_files(self, start: str) -> bool:
        given = Path(str(self.settings.data))
        files = given.iterdir() if given.is_dir() else [given]
        return given.exists() and any(file.name.startswith(start) for file in files)

    def specs(self) -> tuple[MethodSpec, ...]:
        """The methods, those that need sink dimensions with the model's: of the sinks, else those known of its name.

        Raises InputError where neither says.
        """
        known = sink_probes.known_sinks(self.model_name)
        found = []
        for label in self.table.methods:
            spec = label
            if self.sinks is None and known is not None and takes_sinks(label):
                spec += ("," if ":" in label else ":") + f"dims={'+'.join(map(str, known.dims))}"
            method = find_method(spec, self.sinks)
            found.append(MethodSpec(label, NONE if method is None else method.spec(), method))
        return tuple(found)

    def validate(self) -> None:
        """InputError for what is missing, before data are read or a model is loaded."""
        if self.model_name and self.source():
            self.specs()
        if self.table.bench != "chair" and (self.settings.image_list or self.settings.synonyms):
            raise InputError(f"An image list and synonyms are of CHAIR, and {self.table.name} is none: leave them out.")

    def document(self, beside: Sequence[dict[str, Any]], deviations: Sequence[str]) -> dict[str, Any]:
        """What every document of a reproduction has."""
        table = self.table
        return {
            "reproduction": table.name,
            "title": table.title,
            "published_in": table.source,
            "model": self.model_name,
            "published_model": table.model,
            "beside": list(beside),
            "claims": list(table.claims),
            "differs": list(table.differs),
            "deviations": list(deviations),
            "is_published_setting": not deviations,
        }
