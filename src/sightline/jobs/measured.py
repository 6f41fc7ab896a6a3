"""One model under one method over all samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.probes.dominance import DominanceResult


@dataclass(frozen=True)
class Measured:
    """One model under one method over all samples.

    method  in full
    result  over the samples that did not fail
    ids     of these samples, in the data's order
    texts   their answers, where some were generated
    """

    model: str
    method: str
    result: DominanceResult
    ids: tuple[str, ...] = field(repr=False)
    texts: tuple[str | None, ...] = field(repr=False)

    def document(self) -> dict[str, Any]:
        """The `measure` document, with the method; and the answer, where there is one sample."""
        extra = {"text": self.texts[0]} if len(self.texts) == 1 else {}
        return self.result.to_dict() | {"method": self.method} | extra

    def rows(self) -> list[dict[str, Any]]:
        """Long form: a row a sample, layer and metric."""
        stages = {layer: stage for stage, layers in self.result.stage_layers.items() for layer in layers}
        table = self.result.to_pandas()
        metrics = [name for name in table.columns if name not in ("sample", "layer")]
        return [
            {
                "id": self.ids[int(row["sample"])],
                "model": self.model,
                "method": self.method,
                "layer": int(row["layer"]),
                "stage": stages.get(int(row["layer"])),
                "head": None,
                "image": None,
                "answer": self.texts[int(row["sample"])],
                "value": row[metric],
                "metric": metric,
                "queries": self.result.queries,
            }
            for row in table.to_dict("records")
            for metric in metrics
        ] + self._by_image(stages)

    def _by_image(self, stages: Mapping[int, str]) -> list[dict[str, Any]]:
        """MDI against each of several images alone."""
        return [
            {
                "id": self.ids[number],
                "model": self.model,
                "method": self.method,
                "layer": entry.layer,
                "stage": stages.get(entry.layer),
                "head": None,
                "image": image,
                "answer": self.texts[number],
                "value": value,
                "metric": "mdi",
                "queries": self.result.queries,
            }
            for number, sample in enumerate(self.result.samples)
            for entry in sample.layers
            for image, value in sample.by_image(entry).items()
        ]
