"""Results of one run each against each other: what both have, side by side."""

from __future__ import annotations

from pathlib import Path

from sightline.jobs.training import Training
from sightline.probes.sinks import LayerSinks, Sinks
from sightline.training.settings import TrainSettings
from sightline.training.trainer import TrainResult


def sinks(model: str, *dims: int, image: float) -> Sinks:
    return Sinks(model, dims, 20.0, recall=0.5, layers=(LayerSinks(0, image, 1.0),))


def training(folder: str, *losses: float) -> Training:
    log = tuple({"step": step, "loss": loss} for step, loss in enumerate(losses, 1))
    result = TrainResult(Path(folder), len(losses), log, (), len(losses), 0, (), 1.0)
    return Training("tiny-llava", "shapes", 8, TrainSettings(), result)


def test_sinks_of_two_models_stand_beside_each_other() -> None:
    table = sinks("a", 3, 17, image=2.0).compare(sinks("b", 17, image=5.0)).set_index("metric")
    assert table.loc["dims", ["value_a", "value_b"]].tolist() == [2.0, 1.0]
    assert table.loc["shared dims", "value_a"] == 1.0
    assert table.loc["image_sinks", ["a", "b", "layer", "difference"]].tolist() == ["a", "b", 0, 3.0]
    assert "precision" not in table.index, "neither side knows it"


def test_trainings_are_compared_at_their_last_common_step() -> None:
    table = training("first", 4.0, 3.0, 2.0).compare(training("second", 4.0, 2.5)).to_dict("records")
    assert table == [
        {"a": "first", "b": "second", "metric": "loss", "step": 2, "value_a": 3.0, "value_b": 2.5, "difference": -0.5}
    ]
