"""One model under one method, on one query set, over all samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from sightline.calibration.reliance import bundled_fit
from sightline.errors import InputError
from sightline.probes.dominance.result import aggregate

if TYPE_CHECKING:
    from sightline.probes.dominance import DominanceResult


@dataclass(frozen=True)
class Measured:
    """One model under one method, on one query set, over all samples.

    method  in full
    result  over the samples that did not fail
    ids     of these samples, in the data's order
    texts   their answers, where some were generated
    about   what the data say of each beside its prompt, as its subject
    batch_size  samples in one pass, at most; None where an older run does not say
    effects what another sample's picture does to each answer, see `calibration.reliance`; None where not read
    """

    model: str
    method: str
    result: DominanceResult
    ids: tuple[str, ...] = field(repr=False)
    texts: tuple[str | None, ...] = field(repr=False)
    about: tuple[Mapping[str, Any], ...] = field(repr=False)
    effects: tuple[float | None, ...] = field(default=(), repr=False)
    batch_size: int | None = field(default=None, repr=False, compare=False)

    def document(self) -> dict[str, Any]:
        """The `measure` document, with the method; and the answer, where there is one sample."""
        extra = {"text": self.texts[0]} if len(self.texts) == 1 else {}
        effects = [effect for effect in self.effects if effect is not None]
        predicted = {"reliance": bundled_fit().estimate(effects).to_dict()} if effects else {}
        about = {"method": self.method, "batch_size": self.batch_size}
        return self.result.to_dict() | about | predicted | extra

    def parts(self, name: str) -> dict[str, Measured]:
        """By the values of a field of the data, in their order; InputError where no sample has the field."""
        places: dict[str, list[int]] = {}
        for place, about in enumerate(self.about):
            if about.get(name) is not None:
                places.setdefault(str(about[name]), []).append(place)
        if not places:
            known = ", ".join(dict.fromkeys(each for about in self.about for each in about)) or "none"
            raise InputError(f"No sample has a field {name!r}; the data's fields are: {known}.")
        return {value: self._of(chosen) for value, chosen in places.items()}

    def _of(self, places: list[int]) -> Measured:
        samples = [self.result.samples[place] for place in places]
        found = aggregate(samples, self.model, self.result.queries, self.result.scheme)
        ids, texts = (tuple(of[place] for place in places) for of in (self.ids, self.texts))
        about = tuple(self.about[place] for place in places)
        effects = tuple(self.effects[place] for place in places) if self.effects else ()
        return replace(self, result=found, ids=ids, texts=texts, about=about, effects=effects)  # type: ignore[arg-type]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Long form: a row a sample, layer and metric; also a head where kept, and MDI against each image."""
        stages = {layer: stage for stage, layers in self.result.stage_layers.items() for layer in layers}
        table = self.result.to_pandas()
        metrics = [name for name in table.columns if name not in ("sample", "layer", "head")]
        for row in table.to_dict("records"):
            head = row.get("head", nan)
            for metric in metrics:
                if isnan(head) or not isnan(row[metric]):
                    yield self._row(
                        int(row["sample"]),
                        int(row["layer"]),
                        stages,
                        row[metric],
                        metric,
                        head=None if isnan(head) else int(head),
                    )
        for number, sample in enumerate(self.result.samples):
            for entry in sample.layers:
                for image, value in sample.by_image(entry).items():
                    yield self._row(number, entry.layer, stages, value, "mdi", image)

    def _row(
        self, sample: int, layer: int, stages: Mapping[int, str], value: Any, metric: str, image: int | None = None,
        head: int | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        row = {
            "id": self.ids[sample],
            "model": self.model,
            "method": self.method,
            "layer": layer,
            "stage": stages.get(layer),
            "head": head,
            "image": image,
            "answer": self.texts[sample],
            "value": value,
            "metric": metric,
            "queries": self.result.queries,
        }
        return dict(self.about[sample]) | row
