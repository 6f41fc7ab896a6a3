"""Experiment trackers and the logger: the same figures as the document, through one callback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.errors import InputError
from sightline.integrations.tracking import figures_of, tracking
from sightline.runs.progress import Progress


class Kept:
    """A tracker of one's own: what it was called with."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.steps: list[int] = []

    def __call__(self, figures: Mapping[str, float], step: int) -> None:
        self.figures |= figures
        self.steps.append(step)


def test_an_evaluation_gives_progress_and_the_documents_figures(caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept()
    with caplog.at_level(logging.INFO, "sightline"):
        found = sl.evaluate("tiny-llava-early", "shapes-pope", ["none", "vcd"], limit=24, track=kept).to_dict()
    assert kept.figures["shapes-pope/vcd/accuracy"] == found["methods"]["vcd"]["accuracy"]
    low, high = found["methods"]["none"]["accuracy_ci95"]
    ends = [kept.figures[f"shapes-pope/none/accuracy_{end}"] for end in ("low", "high")]
    assert ends == [low, high]
    assert kept.figures["shapes-pope/vcd/vs none/p_value"] == found["paired"][0]["p_value"]
    assert kept.figures["progress/POPE (shapes) vcd"] == 1.0
    assert kept.steps == sorted(kept.steps)
    assert kept.steps[-1] == 48
    said = [record.getMessage() for record in caplog.records if record.name == "sightline"]
    assert any("all 24 are done" in line for line in said)
    assert any("shapes-pope/none/accuracy" in line for line in said)


def test_a_measurement_gives_its_stages() -> None:
    kept, seen = Kept(), list[Progress]()
    found = sl.measure("tiny-llava", "shapes", limit=2, new_tokens=2, track=kept, on_progress=seen.append).to_dict()
    assert kept.figures["early/mdi"] == found["stages"]["early"]["mdi"]
    assert seen[-1].done == 2


def test_several_models_keep_their_names() -> None:
    documents = [{"model": name, "bench": "b", "methods": {"none": {"f": 1}}, "paired": []} for name in ("x", "y")]
    assert figures_of({"evaluations": documents}) == {"x/b/none/f": 1.0, "y/b/none/f": 1.0}
    sets = {"prompt": {"stages": {"early": {"mdi": 2.0, "layers": [0, 1]}}}, "all": {"stages": {"early": {"mdi": 3}}}}
    assert figures_of({"queries": sets}) == {"prompt/early/mdi": 2.0, "all/early/mdi": 3.0}


class Library:
    """Stands in for each of the libraries, and keeps how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def init(self, **given: Any) -> Any:
        self.calls.append(("init", given))
        return self

    def log(self, figures: dict[str, float], step: int) -> None:
        self.calls.append(("log", (figures, step)))

    def finish(self) -> None:
        self.calls.append(("end", None))

    def set_experiment(self, name: str) -> None:
        self.calls.append(("init", name))

    @contextmanager
    def start_run(self, run_name: str) -> Any:
        yield self
        self.calls.append(("end", None))

    def log_params(self, given: Any) -> None:
        self.calls.append(("params", given))

    log_metrics = log

    def SummaryWriter(self, log_dir: str) -> Any:
        self.calls.append(("init", log_dir))
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append(("end", None))

    def add_text(self, *_: object) -> None:
        pass

    def add_scalar(self, name: str, value: float, global_step: int) -> None:
        self.log({name: value}, global_step)


@pytest.mark.parametrize("name", ["trackio", "wandb", "mlflow", "tensorboard"])
def test_every_library_gets_them_and_is_ended(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, library)  # type: ignore[arg-type]
    with tracking(f"{name}:place", "a run", {"seed": 0}) as tracked:
        tracked.figures(lambda: {"model": "m", "bench": "b", "methods": {"vcd:alpha=1": {"f1": 0.5}}, "paired": []})
    assert "place" in str(library.calls[0])
    logged = dict(library.calls)["log"]
    assert next(iter(logged[0])) == ("b/vcd_alpha_1/f1" if name == "mlflow" else "b/vcd:alpha=1/f1")
    assert list(logged[0].values()) == [0.5]
    assert library.calls[-1][0] == "end"


def test_what_is_no_tracker_or_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no tracker 'comet'; there are trackio, wandb"):
        sl.evaluate("tiny-llava", "shapes-pope", limit=1, track="comet")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb"):
        sl.measure("tiny-llava", "shapes", limit=1, track="wandb")


def test_a_failed_item_is_a_warning_of_the_logger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = '{"id": "good", "image": "a.png", "prompt": "Red?"}\n{"id": "bad", "image": "b.png", "prompt": "?"}'
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    (tmp_path / "data.jsonl").write_text(lines)
    sl.measure("tiny-llava", tmp_path / "data.jsonl", new_tokens=1)
    warned = [record for record in caplog.records if record.name == "sightline" and record.levelname == "WARNING"]
    assert len(warned) == 1
    assert "bad failed under none on tiny-llava" in warned[0].getMessage()
