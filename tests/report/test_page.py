"""One file of many runs: whole, small, the same each time, whatever words are in it and whatever is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report import made_runs
from sightline.errors import InputError, SightlineError
from sightline.pages.contents import contents
from sightline.pages.page import page, write_page
from sightline.pages.page_maps import attention_maps
from sightline.pages.reading import read_runs
from sightline.pages.run_aggregates import published_rows
from sightline.probes.dominance import SampleMaps
from sightline.probes.map_values import unpack


def document(text: str) -> dict[str, Any]:
    """The data of a page."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    told: dict[str, Any] = json.loads(found)
    return told


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        made_runs.write_measure(tmp_path / "measured", method="pai"),
        made_runs.write_sinks(tmp_path / "sinks"),
        made_runs.write_eval(tmp_path / "eval"),
        made_runs.write_impact(tmp_path / "impact"),
        made_runs.write_training(tmp_path / "train"),
    ]


def test_all_runs_stand_in_one_page(folders: list[Path]) -> None:
    told = contents(read_runs(folders))
    assert [run["command"] for run in told["runs"]] == ["measure", "sinks", "eval", "impact", "train"]
    assert [entry["name"] for entry in told["dominance"]] == ["tiny-llava", "tiny-llava · pai"]
    assert told["dominance"][0]["layers"][3]["mdi"] == pytest.approx(
        json.loads((folders[0] / "summary.json").read_text())["baseline"]["layers"][3]["mdi"]
    )
    assert told["sinks"][0]["dims"] == [3, 17]
    assert told["evaluations"][0]["paired"][0]["delta"] == 0.1
    assert len(told["training"][0]["series"]["loss"]) == 40
    assert {(sample["run"], len(sample["variants"])) for sample in told["samples"]} == {(0, 2), (2, 2), (3, 1)}
    answered = [sample for sample in told["samples"] if sample["run"] == 2]
    assert all(sample["prompt"] and sample["images"] for sample in answered), "the bundled items are drawn again"
    assert all(isinstance(variant["right"], bool) for sample in answered for variant in sample["variants"])
    (impact,) = [sample for sample in told["samples"] if sample["run"] == 3]
    assert impact["images"]
    assert len(impact["variants"][0]["maps"]["boxes"]) == made_runs.SIDE**2


def test_the_same_folders_give_the_same_bytes(folders: list[Path], tmp_path: Path) -> None:
    one, other = tmp_path / "one.html", tmp_path / "other.html"
    write_page(read_runs(folders), one)
    write_page(read_runs(folders), other)
    assert one.read_bytes() == other.read_bytes()


def test_nothing_is_fetched(folders: list[Path]) -> None:
    text = page(contents(read_runs(folders)))
    assert "default-src 'none'" in text
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?!data:|#)', text)
    assert "@import" not in text
    assert not re.findall(r"url\([\"']?\w+:", text)


def test_a_hundred_samples_of_a_large_model_stay_under_5_mb(tmp_path: Path) -> None:
    """Maps of 24 x 24 patches; one is made and stands for all."""
    folder = made_runs.write_measure(tmp_path / "large", 1, side=24, layers=20, words=["word"] * 8)
    lines = (folder / "samples.jsonl").read_text().splitlines()
    copies = [json.loads(lines[0]) | {"id": f"s-{number}"} for number in range(100)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in copies))
    path = write_page(read_runs([folder]), tmp_path / "report.html")
    assert 1_000_000 < path.stat().st_size < 5_000_000
    told = document(path.read_text())
    assert len(told["samples"]) == 100
    (variant,) = told["samples"][0]["variants"]
    assert variant["maps"]["notes"], "it says what was left out"


def test_maps_that_fit_are_the_run_folders_own() -> None:
    kept = made_runs.kept(1)
    told = attention_maps(kept, 10**6)
    whole = SampleMaps.from_dict(kept)
    assert told["notes"] == []
    np.testing.assert_allclose(unpack(told["mean"]), whole.mean, rtol=1e-3, atol=1e-7)
    assert whole.heads is not None
    assert told["heads"]["shape"] == list(whole.heads.shape)


@pytest.mark.parametrize("budget", [20_000, 5_000, 1_500, 200])
def test_coarse_maps_keep_each_layers_attention(budget: int) -> None:
    kept = made_runs.kept(1, side=15, layers=20, words=["w"] * 30)
    told = attention_maps(kept, budget)
    values, whole = unpack(told["mean"]), SampleMaps.from_dict(kept)
    shown = [whole.layers.index(layer) for layer in told["layers"]]
    assert shown[0] == 0
    assert shown[-1] == 19
    np.testing.assert_allclose(values.sum(-1), whole.mean[: values.shape[0], shown].sum(-1), rtol=0.03)
    grid = told["grids"][0]
    assert grid["cells"] == len(made_runs.PROMPT), "columns follow on each other"
    assert len(made_runs.PROMPT) + grid["rows"] * grid["cols"] == values.shape[2]
    assert len(told["words"]) == values.shape[0]


def test_awkward_words_come_through(tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "<b>run & 'folder'", 1, words=made_runs.AWKWARD, model="</title>x")
    text = page(contents(read_runs([folder])))
    assert "<img src=x" not in text
    assert "<b>run" not in text
    assert text.count("</script>") == text.count("<script")
    (sample,) = document(text)["samples"]
    assert [word for word, _ in sample["variants"][0]["maps"]["words"]] == made_runs.AWKWARD
    path = write_page(read_runs([folder]), tmp_path / "out" / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>")


def test_an_interrupted_run_is_summed_up(tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "run", is_finished=False)
    whole = made_runs.write_measure(tmp_path / "whole")
    with (folder / "samples.jsonl").open("a") as file:
        file.write('{"id": "s-9", "model": "tiny-ll')
    found, expected = (contents(read_runs([place])) for place in (folder, whole))
    assert found["dominance"][0]["layers"] == expected["dominance"][0]["layers"]
    assert any("not finished" in note for note in found["runs"][0]["notes"])


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "bare", has_maps=False)
    told = contents(read_runs([folder]))
    assert told["runs"][0]["notes"] == ["No maps in this run: measure with --maps 100."]
    assert all("maps" not in variant for sample in told["samples"] for variant in sample["variants"])
    lines = [json.loads(line) for line in (made_runs.write_measure(tmp_path / "x", 2) / "samples.jsonl").open()]
    lines[0]["result"]["maps"]["mean"]["bytes"] = "AAAA"
    lines[1] = {"id": "bad", "model": "tiny-llava", "method": "none", "error": "The image is truncated."}
    folder = made_runs.write_run(tmp_path / "torn", "measure", {}, lines, None)
    errors = {sample["id"]: sample["variants"][0]["error"] for sample in contents(read_runs([folder]))["samples"]}
    assert errors == {"s-0": "The maps of this sample are damaged.", "bad": "The image is truncated."}


def test_items_that_are_gone_leave_the_answers(tmp_path: Path) -> None:
    folder = made_runs.write_eval(tmp_path / "eval")
    about = json.loads((folder / "run.json").read_text())
    about["settings"]["bench"] = "pope"
    for path in (None, str(tmp_path / "gone")):
        about["info"]["path"] = path
        (folder / "run.json").write_text(json.dumps(about))
        told = contents(read_runs([folder]))
        assert "without pictures" in told["runs"][0]["notes"][0]
        assert told["samples"][0]["variants"][0] == {"name": "tiny-llava", "answer": "no", "right": None}


def test_more_samples_than_asked_for_are_counted(tmp_path: Path) -> None:
    folders = [made_runs.write_measure(tmp_path / name, 6) for name in ("one", "two")]
    told = contents(read_runs(folders), samples=5)
    assert [sample["run"] for sample in told["samples"]] == [0, 0, 0, 1, 1]
    assert told["left"] == 7
    assert contents(read_runs(folders), samples=0)["samples"] == []


def test_published_rows_of_known_models_alone() -> None:
    assert [row["name"] for row in published_rows("llava-hf/llava-1.5-7b-hf", "generated")] == ["llava-1.5-7b"]
    assert len(published_rows("/models/Qwen2-Audio-7B-Instruct", "generated")) == 3
    assert published_rows("tiny-llava", "generated") == []
    assert published_rows("llava-1.5-7b", "all") == []


def test_a_folder_of_runs_stands_for_them(tmp_path: Path, folders: list[Path]) -> None:
    assert [run.command for run in read_runs([tmp_path])] == ["eval", "impact", "measure", "sinks", "train"]
    assert len(read_runs([tmp_path, folders[0]])) == 5, "each run once"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda place: place, "does not exist"),
        (lambda place: place.touch(), "is a file"),
        (lambda place: place.mkdir(), "is no run folder"),
        (lambda place: _files(place, {"run.json": '{"command": "mea'}), "cannot be read"),
        (lambda place: _files(place, {"run.json": "[]"}), "cannot be read"),
        (lambda place: _files(place, {"run.json": '{"command": "measure", "settings": {}}'}), "no sample yet"),
        (lambda place: _files(place, {"samples.jsonl": "{}"}), "no run.json"),
        (lambda place: _files(place, {"training.json": "{}"}), "logged nothing yet"),
        (lambda place: _files(place, {"training.json": "{"}), "cannot be read"),
    ],
)
def test_folders_that_are_no_runs(tmp_path: Path, make: Any, sentence: str) -> None:
    make(tmp_path / "run")
    with pytest.raises(InputError, match=sentence) as caught:
        read_runs([tmp_path / "run"])
    assert str(tmp_path / "run") in str(caught.value)


def _files(folder: Path, contents: dict[str, str]) -> None:
    folder.mkdir()
    for name, text in contents.items():
        (folder / name).write_text(text)


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "run", 1)
    (tmp_path / "file").touch()
    with pytest.raises(SightlineError, match="writing failed"):
        write_page(read_runs([folder]), tmp_path / "file" / "report.html")
