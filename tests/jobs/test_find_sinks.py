"""sl.find_sinks, and the file that other jobs take as sinks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.errors import SightlineWarning
from sightline.jobs.generate import generate
from support.runs import lines_of

FIELDS = {"model", "dims", "tau", "gap", "precision", "recall", "candidates", "layers"}


@pytest.fixture
def one(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> sl.Sample:
    """A question about the photograph, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return sl.Sample(prompt="What do you see?", images=(picture,))


def test_the_document_the_folder_and_going_on(deep: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data.parent)
    document = sl.find_sinks(str(deep), data, out="run", limit=2).to_dict()
    assert document.keys() >= FIELDS
    assert document["dims"] == [5]
    assert document["candidates"][0] == {"dim": 5, "score": 1.0}
    assert document["samples"] == 2
    assert [layer["layer"] for layer in document["layers"]] == [2, 3]
    assert document["layers"][0]["text_sinks"] == 1.0
    assert json.loads(Path("run/sinks.json").read_text()) == document
    assert json.loads(Path("run/summary.json").read_text()) == document
    before = Path("run/samples.jsonl").read_text()
    more = sl.find_sinks(str(deep), data, out="run").to_dict()
    assert (more["samples"], more["failed"]) == (3, 1)
    assert "missing.png does not exist" in next(line["error"] for line in lines_of(Path("run")) if "error" in line)
    assert Path("run/samples.jsonl").read_text().startswith(before)
    with pytest.raises(sl.InputError, match="run holds a run with tau"):
        sl.find_sinks(str(deep), data, out="run", tau=9)


def test_the_file_is_taken(tiny: Path, deep: Path, one: sl.Sample) -> None:
    sl.find_sinks(str(deep), one, out="found")
    told = generate(str(deep), one, method="var:p=0.5", sinks="found/sinks.json", new_tokens=2).to_dict()
    assert told["method"].startswith("var:dims=5,tau=")
    assert told["method"].endswith("p=0.5")
    measured = sl.measure(str(deep), one, method="var", sinks="found", new_tokens=2).to_dict()
    assert measured["method"].startswith("var:dims=5")
    assert measured["baseline"]["layers"][2]["text_sinks_mass"] is not None
    job: Any
    for job in (generate, sl.measure):
        with pytest.raises(sl.InputError, match=r"found/sinks\.json are those of"):
            job(str(tiny), one, sinks="found/sinks.json")
        with pytest.raises(sl.InputError, match="needs the model's sink dimensions"):
            job(str(tiny), one, method="var")
        with pytest.raises(sl.InputError, match="cannot be read"):
            job(str(tiny), one, sinks="gone.json")


def test_they_are_found_on_the_first_samples_and_kept_in_the_run(
    tiny: Path, deep: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    fields: dict[str, Any] = {"limit": 2, "new_tokens": 2, "sinks": "auto", "method": "var", "out": "run"}
    document = sl.measure(str(deep), data, **fields).to_dict()
    assert document["method"].startswith("var:dims=5,tau=")
    assert json.loads(Path("run/sinks.json").read_text())["dims"] == [5]
    with monkeypatch.context() as patch:
        patch.setattr("sightline.jobs.models.load_model", lambda *_: pytest.fail("the model was loaded"))
        assert sl.measure(str(deep), data, **fields).to_dict() == document
    with pytest.raises(sl.InputError, match="with one model"):
        sl.measure([str(deep), str(tiny)], data, **fields)
    with pytest.raises(sl.InputError, match="by measure and eval alone"):
        generate(str(deep), sl.read_samples(data)[0], sinks="auto")


def test_a_method_that_changes_nothing_is_told(tiny: Path, one: sl.Sample) -> None:
    with pytest.warns(SightlineWarning, match="var changes nothing: no phi exceeds"):
        generate(str(tiny), one, new_tokens=2, method="var:dims=3,tau=20")


def test_the_file_of_a_model_without_sinks_is_taken(tiny: Path, one: sl.Sample) -> None:
    assert sl.find_sinks(str(tiny), one, out="found").dims == ()
    with pytest.warns(SightlineWarning, match="changes nothing: no sinks were found in this model"):
        sl.measure(str(tiny), one, queries="prompt", method="var", sinks="found/sinks.json")


def test_the_file_is_bound_to_the_weights(deep: Path, one: sl.Sample, tmp_path: Path) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(deep, moved)
    sl.find_sinks(str(moved), one, out="found")
    shutil.move(moved, other)
    fields: dict[str, Any] = {"new_tokens": 1, "method": "var", "sinks": "found"}
    assert generate(str(other), one, **fields).tokens
    shutil.copytree(other, moved)
    with (moved / "model.safetensors").open("r+b") as weights:
        weights.seek(-4, 2)
        weights.write(b"\0\0\0\0")
    with pytest.raises(sl.InputError, match=f"found on other weights than those that {moved} holds now"):
        generate(str(moved), one, **fields)
    document = json.loads(Path("found/sinks.json").read_text())
    Path("found/sinks.json").write_text(json.dumps(document | {"content": None}))
    with pytest.warns(SightlineWarning, match=f"do not tell on which weights of {moved}"):
        generate(str(moved), one, **fields)


def test_a_file_with_nonsense_is_refused(deep: Path, one: sl.Sample) -> None:
    good = {"model": "m", "dims": [5], "tau": 3.0, "candidates": [], "layers": []}
    for wrong in ({"dims": "5"}, {"dims": [-1]}, {"dims": [1.5]}, {"tau": 0}, {"tau": "high"}, {"layers": 3}):
        Path("sinks.json").write_text(json.dumps(good | wrong))
        with pytest.raises(sl.InputError, match=r"sinks\.json is no sinks file"):
            generate(str(deep), one, sinks="sinks.json")
