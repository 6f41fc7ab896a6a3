"""One file of many runs: whole, small, the same each time, whatever words are in it and whatever is missing."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from report import made_runs
from sightline.errors import InputError, SightlineError
from sightline.knockout.result import ImpactMap
from sightline.pages import aggregates, reading
from sightline.pages.aggregates import published_rows
from sightline.pages.contents import contents
from sightline.pages.naming import without_places
from sightline.pages.page import page, write_page
from sightline.pages.page_maps import attention_maps
from sightline.pages.pictures import fitted, thumbnails
from sightline.pages.reading import read_runs
from sightline.probes.dominance import SampleMaps
from sightline.probes.map_values import unpack


def document(text: str) -> dict[str, Any]:
    """The data of a page, its pieces put together again."""
    found = dict(re.findall(r'<script type="application/json" id="([a-z0-9-]+)">(.*?)</script>', text, re.S))
    told: dict[str, Any] = json.loads(found["data"])
    for sample in told["samples"]:
        sample["images"], maps = json.loads(found[f"piece-{sample['piece']}"])[sample["place"]]
        for variant, each in zip(sample["variants"], maps, strict=True):
            assert variant.pop("hasMaps") == (each is not None)
            variant["maps"] = each
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


def test_thoughts_among_the_words_are_named() -> None:
    assert attention_maps(made_runs.kept(1) | {"thoughts": 3}, 10**6)["notes"] == [
        "of the answer, the first 3 tokens are thoughts"
    ]


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
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


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
        assert told["samples"][0]["variants"][0] == {
            "name": "tiny-llava", "method": "none", "answer": "no", "right": None
        }  # fmt: skip


def test_series_of_one_name_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    folders = [made_runs.write_measure(tmp_path / name, 2) for name in ("one", "two", "three")]
    for folder, data in zip(folders, ("shapes", "/home/someone/data/pope", "shapes"), strict=True):
        about = json.loads((folder / "run.json").read_text())
        about["settings"] |= {"data": data, "seed": len(data) if folder.name == "three" else 0}
        (folder / "run.json").write_text(json.dumps(about))
    names = [entry["name"] for entry in contents(read_runs(folders))["dominance"]]
    assert names == ["tiny-llava (shapes, seed 0)", "tiny-llava (pope, seed 0)", "tiny-llava (shapes, seed 6)"]
    alike = [made_runs.write_measure(tmp_path / name, 2) for name in ("four", "five")]
    names = [entry["name"] for entry in contents(read_runs(alike))["dominance"]]
    assert names == ["tiny-llava (four)", "tiny-llava (five)"]


def test_no_page_has_a_path_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    folder = made_runs.write_measure(tmp_path / "run", 2, model=str(tmp_path / "models" / "mine"))
    lines = (folder / "samples.jsonl").read_text().splitlines()
    failed = {"id": "bad", "model": "tiny-llava", "error": f"The image {tmp_path / 'a' / 'b.png'} is truncated."}
    (folder / "samples.jsonl").write_text("".join(f"{line}\n" for line in [*lines, json.dumps(failed)]))
    about = json.loads((folder / "run.json").read_text())
    about["settings"] |= {"data": str(tmp_path / "my data" / "x.jsonl"), "sinks": str(tmp_path / "sinks.json")}
    (folder / "run.json").write_text(json.dumps(about))
    text = page(contents(read_runs([folder])))
    assert str(tmp_path) not in text
    assert "The image b.png is truncated." in text
    assert "x.jsonl" in text


PLACES = (
    "/home/someone/kept",
    "file:///home/someone/kept",
    "C:\\Users\\someone\\kept",
    "C:/someone/kept",
    "\\\\someone\\kept",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("write", [made_runs.write_measure, made_runs.write_eval, made_runs.write_training])
def test_no_path_comes_with_a_setting_a_method_or_a_name(tmp_path: Path, write: Any, place: str) -> None:
    folder = write(tmp_path / "run")
    written = f"steer:file={place}/v.npz", json.dumps(f"steer:file={place}/v.npz")[1:-1]
    for path in (path for path in folder.rglob("*") if path.suffix in (".json", ".jsonl")):
        text = re.sub(r'"pai"|"tiny-llava"', lambda _: f'"{written[1]}"', path.read_text())
        about = json.loads(text) if path.name in ("run.json", "training.json") else {}
        for part in about.keys() & {"settings", "info", "about"}:
            about[part] |= {"labels": f"{place}/l.jsonl", f"content of {place}/x": {"deep": [f"{place}/y", written[0]]}}
        path.write_text(json.dumps(about) if about else text)
    found = page(contents(read_runs([folder])))
    assert "someone" not in found
    assert "l.jsonl" in found


def test_methods_that_differ_by_a_folder_alone_stay_two() -> None:
    found = without_places({"steer:file=/a/b/v": 1, "steer:file=/a/c/v": 2, "pair": ["steer:file=/a/c/v"]})
    assert found == {"steer:file=v": 1, "steer:file=v (2)": 2, "pair": ["steer:file=v (2)"]}
    assert without_places({"prompt": "see /a/b/c", "note": "see /a/b/c and https://a.b/c/d, 3/4 and and/or"}) == {
        "prompt": "see /a/b/c",
        "note": "see c and https://a.b/c/d, 3/4 and and/or",
    }


@pytest.mark.parametrize(
    "image",
    [
        {"width": 9, "height": 9, "data": "https://example.org/x.png"},
        {"width": 9, "height": 9, "data": "data:image/svg+xml;base64,AAAA"},
        {"width": 9, "height": 9, "data": 'data:image/png;base64,AA"x'},
        {"width": "9;background:red", "height": 9, "data": "data:image/png;base64,AAAA"},
        {"width": 9, "height": 9},
        "data:image/png;base64,AAAA",
    ],
)
def test_only_pictures_that_commands_keep_go_into_a_page(tmp_path: Path, image: Any) -> None:
    folder = made_runs.write_measure(tmp_path / "run", 1)
    line = json.loads((folder / "samples.jsonl").read_text())
    own = line["result"]["maps"]["images"][0]
    line["result"]["maps"]["images"] = [own, image]
    (folder / "samples.jsonl").write_text(json.dumps(line) + "\n")
    found = contents(read_runs([folder]))
    assert found["samples"][0]["images"] == [own]
    assert found["runs"][0]["notes"] == ["Pictures left out, being no copies of the kind that commands keep: 1."]


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_line_that_is_damaged_within_is_passed_over(tmp_path: Path, is_finished: bool) -> None:
    folder = made_runs.write_measure(tmp_path / "run", 3, is_finished=is_finished, method="pai")
    text = (folder / "samples.jsonl").read_text()
    (folder / "samples.jsonl").write_text(text.replace('"layers": [{"layer": 0', '"layers": [{"layer" 0', 1))
    found = contents(read_runs([folder]))
    assert len(found["dominance"]) == 2
    assert found["samples"][0]["variants"][0]["error"] == "The line of this sample is damaged."


def test_a_long_unfinished_run_is_summed_up_from_some_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (reading, aggregates):
        monkeypatch.setattr(module, "UNFINISHED", 3)
    folder = made_runs.write_measure(tmp_path / "run", 7, is_finished=False, has_maps=False)
    found = contents(read_runs([folder]))
    assert found["dominance"][0]["samples"] == 3
    assert found["runs"][0]["samples"] == 7
    assert "Of the 7 of a model and method, 3 evenly taken ones are put together." in found["runs"][0]["notes"][0]


def test_the_finding_is_a_sentence_of_the_data(tmp_path: Path) -> None:
    def parts(**fields: Any) -> str:
        folder = made_runs.write_eval(tmp_path / str(len(list(tmp_path.iterdir()))))
        summary = json.loads((folder / "summary.json").read_text())
        summary["paired"][0] |= fields.pop("pair", {})
        summary["methods"] = {
            "none": summary["methods"]["none"] | {"accuracy": 0.5},
            "pai": summary["methods"]["pai"] | {"accuracy": 0.6, "seconds_per_item": 0.18},
        }
        (folder / "summary.json").write_text(json.dumps(summary | fields))
        found = contents(read_runs([folder]))["finding"]
        assert found["sample"] is None or found["sample"] < 4
        return "".join(text for text, _ in found["parts"])

    start = "tiny-llava answers 50% of the questions of shapes-pope rightly; "
    assert parts(pair={"p_value": 1e-5}) == start + "PAI brings that to 60% (p < 0.001) at 1.8 times the time."
    assert parts(pair={"p_value": 0.04, "p_holm": 0.08}) == (
        start + "PAI does not change that beyond chance (60%, p = 0.08)."
    )
    assert parts(pair={"p_value": 1e-5}, better="smaller").endswith("(60%, p < 0.001).")
    assert parts(paired=[]).endswith("rightly (95% 20% to 80%).")


def test_a_finding_opens_on_the_item_that_the_method_sets_right(tmp_path: Path) -> None:
    folder = made_runs.write_eval(tmp_path / "eval")
    summary = json.loads((folder / "summary.json").read_text())
    summary["paired"][0] |= {"p_value": 1e-5, "flipped": {"a_only": ["random/1"], "b_only": ["random/3"]}}
    (folder / "summary.json").write_text(json.dumps(summary))
    found = contents(read_runs([folder]))
    assert found["samples"][found["finding"]["sample"]]["id"] == "random/3"
    assert [sample["id"] for sample in found["samples"][:2]] == ["random/1", "random/3"], "flipped ones come first"
    assert found["evaluations"][0]["controls"] == []


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (made_runs.write_measure, "In the last layers of tiny-llava"),
        (made_runs.write_sinks, "by hidden dimension 3, 17 (precision 0.80, recall 0.50)."),
        (made_runs.write_impact, "comes from the image and the rest from text."),
        (made_runs.write_training, "goes from 3.00 to 0.07 in 39 steps."),
    ],
)
def test_every_kind_of_run_has_a_finding(tmp_path: Path, write: Any, words: str) -> None:
    found = contents(read_runs([write(tmp_path / "run")]))["finding"]
    assert words in "".join(text for text, _ in found["parts"])


def test_one_step_of_training_is_shown(tmp_path: Path) -> None:
    folder = made_runs.write_training(tmp_path / "train")
    (folder / "log.jsonl").write_text('{"step": 2, "loss": 0.3, "ground": 0.35}\n{"step": 2, "train_runtime": 6.6}\n')
    found = contents(read_runs([folder]))
    assert found["training"][0]["series"] == {"loss": [[2.0, 0.3]], "ground": [[2.0, 0.35]]}
    sentence = "".join(text for text, _ in found["finding"]["parts"])
    assert sentence == "The loss of train is 0.30 at step 2, the only one logged."


def test_a_finding_of_no_change_has_a_picture_beside_it(tmp_path: Path) -> None:
    folder = made_runs.write_eval(tmp_path / "eval")
    summary = json.loads((folder / "summary.json").read_text())
    summary["paired"][0] |= {"p_value": 1.0, "flipped": {"a_only": [], "b_only": []}}
    for paired in (summary["paired"], []):
        (folder / "summary.json").write_text(json.dumps(summary | {"paired": paired}))
        found = contents(read_runs([folder]))
        assert found["samples"][found["finding"]["sample"]]["images"]


def test_one_settings_table_puts_what_differs_first(tmp_path: Path) -> None:
    folders = [made_runs.write_measure(tmp_path / "a"), made_runs.write_eval(tmp_path / "b")]
    rows = contents(read_runs(folders))["settings"]
    differs = [row["differs"] for row in rows]
    assert differs == sorted(differs, reverse=True)
    assert {row["name"]: row["values"] for row in rows if row["differs"]} == {
        "command": ["sightline measure", "sightline eval"],
        "models": ["tiny-llava", None],
        "bench": [None, "shapes-pope"],
    }


def test_impact_is_summed_by_layer_and_modality(folders: list[Path]) -> None:
    (found,) = contents(read_runs(folders))["impact"]
    kept = ImpactMap.from_dict(json.loads((folders[3] / "impact.json").read_text()))
    for name in ("text", "image"):
        places = [place for place, source in enumerate(kept.tokens) if source.modality == name]
        np.testing.assert_allclose(found["series"][name], np.nansum(kept.maps["logprob"][:, places], axis=1))
    assert found["signed"] is True


def test_the_first_pictures_are_sharp_and_many_fit_a_page() -> None:
    drawn = Image.effect_noise((800, 600), 60).convert("RGB")
    sharp = thumbnails([drawn])
    assert Image.open(io.BytesIO(base64.b64decode(sharp[0]["data"].partition(",")[2]))).size == (512, 384)
    samples = [list(sharp) for _ in range(60)]
    fitted(samples)
    sizes = [len(images[0]["data"]) for images in samples]
    assert sizes[:24] == [len(sharp[0]["data"])] * 24
    assert max(sizes[24:]) < sizes[0] / 3


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


@pytest.mark.parametrize(
    "spoiled",
    [
        {"methods": []},
        {"paired": [3]},
        {"paired": [{"flipped": {"a_only": 3}}]},
        {"layers": {}},
        {"models": "x"},
        {"evaluations": [[]]},
        {"baseline": {"layers": [1]}},
        {"model": 3},
    ],
)
def test_a_summary_of_another_kind_is_damage(tmp_path: Path, spoiled: dict[str, Any]) -> None:
    folder = made_runs.write_measure(tmp_path / "run", 2)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | spoiled))
    (about,) = contents(read_runs([folder]))["runs"]
    assert "summary.json is damaged; what can be is taken from the samples." in about["notes"]
