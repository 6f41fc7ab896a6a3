"""sightline reproduce: every published table, end to end, on a tiny model of its family and data in official files."""

from __future__ import annotations

import csv
import json
import shutil
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from benchmarks.tables import png, write_parquet
from model_folders import save, save_llava, save_qwen2_audio
from sightline.errors import InputError
from sightline.methods.registry import find_method
from sightline.probes.dominance import PUBLISHED
from sightline.probes.sinks import Sinks
from sightline.published import FLOWS, reproductions
from sightline.published import table as settings
from sightline.published.table import TABLES, read_reproduction
from support.coco import write_split

Run = Callable[..., Any]
BATCH = ("--batch-size", 2)
NAMES = sorted(path.stem for path in TABLES.glob("*.yaml"))


# The files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_what_is_run_and_where_its_figures_come_from(name: str) -> None:
    table = reproductions()[name]
    assert table.differs
    assert table.published or table.claims
    for label in table.methods:
        spec = f"{label}:dims=1" if label in ("var", "var_random", "mask_sinks", "mask_random") else label
        assert label == "none" or find_method(spec) is not None
    assert set(table.flows) <= set(FLOWS)
    for entry in table.published:
        assert entry.source
        assert (entry.row is None) == bool(entry.figures)
        assert entry.row is None or "arXiv 2508.10552" in PUBLISHED[entry.row].source
        assert all(0 <= value <= (800 if table.bench == "mme" else 1) for value in entry.figures.values())
        # No published figure here was read in a method's own code or by us in a paper.
        assert entry.status == "reported"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "guess"}, "takes measure, eval, flow"),
        ({"metod": []}, "has a field 'metod'"),
        ({"published": [{"method": "none", "source": "x", "status": "sure"}]}, "takes confirmed, reported, derived"),
        ({"published": [{"method": "var", "source": "x", "status": "reported"}]}, "which it does not run"),
        ({"published": [{"method": "none", "source": "x", "status": "reported", "row": "no"}]}, "is not published"),
        ({"published": [{"method": "none", "status": "reported"}]}, "lacks 'source'"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    content = yaml.safe_load((TABLES / "langoverrule-image.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(content | change), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_reproduction(path)


def test_they_are_listed(sightline: Run) -> None:
    found = sightline("reproduce", "--list", "--json").document["reproductions"]
    assert [entry["name"] for entry in found] == NAMES
    assert sightline("list", "reproductions", "--json").document["reproductions"] == found
    told = sightline("reproduce", "--list").out
    assert all(name in told for name in NAMES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("langoverrule-imag",), "did you mean langoverrule-image"),
        (("\u202evcd\u0000 \U0001f600",), "; there are adhh-chair, "),
        ((), "No table is named"),
        (("langoverrule-video",), "give --model with a folder"),
        (("langoverrule-audio",), "needs --data. JSON lines"),
        (("langoverrule-audio", "--data", "missing.jsonl"), "missing.jsonl does not exist"),
        (("vcd-pope", "--data", "nowhere", "--model", "tiny-llava"), "nowhere"),
        (("vcd-pope", "--image-list", "x.txt"), "are of CHAIR"),
        (("var-pope", "--model", "tiny-llava", "--data", "shapes-pope"), "needs the model's sink dimensions"),
    ],
)
def test_what_is_wrong_is_told_before_a_model_loads(sightline: Run, words: tuple[str, ...], said: str) -> None:
    assert said in sightline("reproduce", *words).err
    assert not list(Path().glob("runs/*"))


# MDI and AEI ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mmmu(tmp_path: Path) -> Path:
    rows = [
        {"id": f"test_Music_{number}", "image": png("red"), "options": "['a', 'b']", "answer": "A", "subject": "Music"}
        for number in range(2)
    ]
    write_parquet(tmp_path / "mmmu" / "vision" / "test-00000-of-00001.parquet", rows, ["image"])
    return tmp_path / "mmmu"


def test_image(sightline: Run, tiny: Path, mmmu: Path) -> None:
    words = ("reproduce", "langoverrule-image", "--model", tiny, "--data", mmmu, "--out", "run", *BATCH)
    document = sightline(*words, "--json").document
    (model,) = document["models"]
    assert (model["samples"], model["queries"], model["tokens"]["image"]) == (2, "generated", 9.0)
    beside = {row["figure"]: row for row in document["beside"]}
    assert list(beside) == ["early mdi", "early aei", "middle mdi", "middle aei", "late mdi", "late aei"]
    late = beside["late mdi"]
    assert late["published"] == 17.37
    assert late["ours"] == model["stages"]["late"]["mdi"]
    assert late["difference"] == pytest.approx(late["ours"] - 17.37)
    assert "90% of the tokens are text" in beside["early mdi"]["lint"]
    assert not document["is_published_setting"]
    assert document["deviations"] == [f"The model is {tiny}, and the published one llava-hf/llava-1.5-7b-hf."]
    assert json.loads(Path("run/summary.json").read_text()) == document

    lines = Path("run/samples.jsonl").read_text()
    again = sightline(*words)
    assert Path("run/samples.jsonl").read_text() == lines
    for said in ("17.37", "reported", "Nothing is reproduced or refuted by this run.", "not known to us", "90% of"):
        assert said in again.out
    other = sightline("reproduce", "langoverrule-compression", *words[2:])
    assert "holds a run with methods" in other.sentence


def test_under_the_published_model_and_data_the_verdict_changes(sightline: Run, tiny: Path, mmmu: Path) -> None:
    named = shutil.copytree(tiny, Path("weights") / "llava-1.5-7b-hf")
    words = ("reproduce", "langoverrule-image", "--model", named, "--data", mmmu, *BATCH)
    assert "Model and data are, by their names, the published ones." in sightline(*words).out
    document = sightline(*words, "--limit", 1, "--json").document
    assert document["deviations"] == ["Only 1 of 2 items were run."]


def test_compression(sightline: Run, tiny: Path) -> None:
    words = ("--model", tiny, "--data", "shapes", "--limit", 1, "--json")
    document = sightline("reproduce", "langoverrule-compression", *words).document
    assert [told["tokens"]["image"] for told in document["models"]] == [9.0, 2.0, 1.0, 1.0]
    assert len(document["beside"]) == 24
    assert "The data are shapes, and the published ones mmmu-pro." in document["deviations"]
    assert any("misprint" in (row["note"] or "") for row in document["beside"])


def test_audio(sightline: Run, tmp_path: Path) -> None:
    model = save_qwen2_audio(tmp_path / "Qwen2-Audio")
    for name, count in (("a.wav", 8000), ("b.wav", 12000)):
        with wave.open(str(tmp_path / name), "wb") as sound:
            sound.setparams((1, 2, 16000, 0, "NONE", ""))
            sound.writeframes(bytes(range(200)) * (count * 2 // 200))
    lines = [{"id": name, "audio": f"{name}.wav", "prompt": "What does the speaker feel?"} for name in ("a", "b")]
    data = tmp_path / "iemocap.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ("--model", model, "--data", data, "--out", "run", "--json", *BATCH)
    document = sightline("reproduce", "langoverrule-audio", *words).document
    once, five, ten = (told["tokens"]["audio"] for told in document["models"])
    assert once == 6.0  # five tokens and seven
    assert (five, ten) == (5 * once, 10 * once)
    assert [row["published"] for row in document["beside"] if row["figure"] == "late mdi"] == [1.16, 6.73, 8.70]
    assert all(row["ours"] is not None for row in document["beside"])


def test_video(sightline: Run, tmp_path: Path) -> None:
    """Frames as images: video itself needs torchvision, which need not be there."""
    from transformers.models.video_llama_3.image_processing_pil_video_llama_3 import VideoLlama3ImageProcessorPil

    from support.families import core

    model = save(
        tmp_path / "model",
        "video_llama_3",
        {"<image>": core.IMAGE_ID, "<video>": core.VIDEO_ID},
        "VideoLlama3Processor",
        named={"image_token": "<image>", "video_token": "<video>"},
        parts=(VideoLlama3ImageProcessorPil(patch_size=4, merge_size=2, min_pixels=64, max_pixels=1024),),
    )
    for number in range(3):
        Image.effect_noise((24, 24), 80).convert("RGB").save(tmp_path / f"{number}.png")
    frames = {"id": "v1", "images": [f"{number}.png" for number in range(3)], "prompt": "What happens?"}
    (tmp_path / "bench.jsonl").write_text(json.dumps(frames) + "\n")
    words = ("--model", model, "--data", tmp_path / "bench.jsonl", "--json")
    document = sightline("reproduce", "langoverrule-video", *words).document
    assert document["models"][0]["tokens"]["image"] == 27.0
    assert [row["published"] for row in document["beside"]][4:] == [157.53, 76.26]
    assert document["deviations"] == [f"Whether {model} holds the published weights is not known here."]


# Benchmarks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pope(tmp_path: Path) -> Path:
    folder = tmp_path / "POPE" / "output" / "coco"
    (folder / "images").mkdir(parents=True)
    Image.effect_noise((30, 30), 80).convert("RGB").save(folder / "images" / "COCO_val2014_000000000042.jpg")
    for split in ("random", "popular", "adversarial"):
        record = {"question_id": 1, "image": "COCO_val2014_000000000042.jpg", "text": "Is there a red circle?"}
        (folder / f"coco_pope_{split}.json").write_text(json.dumps({**record, "label": "yes"}) + "\n")
    return folder


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    write_split(root / "annotations", "val2014", {42: ([18], ["A puppy."]), 7: ([], ["A man."])})
    (root / "val2014").mkdir()
    for number in (42, 7):
        Image.effect_noise((30, 30), 80).convert("RGB").save(root / "val2014" / f"COCO_val2014_{number:012d}.jpg")
    return root


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA of four layers, since PAI begins with the third."""
    return save_llava(tmp_path_factory.mktemp("models") / "llava")


@pytest.fixture
def sinks(llava: Path, tmp_path: Path) -> Path:
    from sightline.probes.sinks.result import content_of

    return Sinks(str(llava), (3,), 1.3, content=content_of(str(llava))).save(tmp_path / "sinks.json")


@pytest.mark.parametrize("name", ["dmas-pope", "pai-pope", "var-pope"])
def test_pope(sightline: Run, llava: Path, pope: Path, sinks: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = reproductions()[name]
    monkeypatch.setattr(settings, "reproductions", lambda: {name: replace(table, new_tokens=2)})
    more = ("--sinks", sinks) if name == "var-pope" else ()
    words = ("reproduce", name, "--model", llava, "--data", pope, "--out", "run", *more)
    document = sightline(*words, "--json").document
    assert list(document["methods"]) == list(table.methods)
    assert all(told["n"] == 3 for told in document["methods"].values())
    assert len(document["beside"]) == sum(len(entry.figures) for entry in table.published)
    for row in document["beside"]:
        part, _, figure = row["figure"].rpartition(" ")
        told = document["methods"][row["method"]]
        assert row["ours"] == (told["splits"][part] if part else told)[figure]
        assert row["difference"] == pytest.approx(row["ours"] - row["published"])
    kept = json.loads(Path("run/run.json").read_text())["settings"]
    assert kept["temperature"] == table.temperature
    lines = Path("run/samples.jsonl").read_text()
    told = sightline(*words).out
    assert Path("run/samples.jsonl").read_text() == lines
    assert ("No published figure could be sourced" in told) == (name == "var-pope")


def test_a_single_file_of_a_benchmark_is_its_path(pope: Path, tmp_path: Path) -> None:
    from sightline.jobs.reproduction_plan import ReproduceSettings, ReproductionPlan

    lines = (pope / "coco_pope_random.json").rename(pope / "coco_pope_random.jsonl")
    tables = reproductions()

    def source(name: str, data: object) -> str:
        return ReproductionPlan(tables[name], ReproduceSettings(data=str(data))).source()

    assert source("vcd-pope", lines) == f"pope:{lines}"
    assert source("vcd-pope", "shapes-pope") == "shapes-pope"
    assert source("langoverrule-image", lines) == str(lines)
    assert source("langoverrule-image", pope) == f"mmmu-pro:{pope}"


def test_drawn_answers_are_the_seeds(sightline: Run, tiny: Path, pope: Path) -> None:
    def texts(*more: object) -> list[str]:
        out = Path("run") / "-".join(map(str, more))
        sightline("reproduce", "vcd-pope", "--model", tiny, "--data", pope, "--out", out, *more)
        lines = (out / "samples.jsonl").read_text().splitlines()
        return sorted(json.loads(line)["result"]["response"] for line in lines)

    first = texts("--seed", 1)
    assert texts("--seed", 1, "--batch-size", 1) == first
    assert texts("--seed", 2) != first


@pytest.mark.parametrize("name", ["vcd-chair", "vista-chair", "var-chair"])
def test_chair(
    sightline: Run, llava: Path, coco: Path, sinks: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(reproductions()[name], new_tokens=4)
    monkeypatch.setattr(settings, "reproductions", lambda: {name: short})
    more = ("--sinks", sinks) if name == "var-chair" else ()
    (coco / "list.txt").write_text("42\n")
    words = ("--model", llava, "--data", coco, "--image-list", coco / "list.txt", "--json", *more)
    document = sightline("reproduce", name, *words).document
    assert document["items"] == {"asked": 1, "of": 1}
    assert {row["figure"] for row in document["beside"]} >= {"chair_s", "chair_i"}
    assert all(told["n"] == 1 for told in document["methods"].values())


# Flows ----------------------------------------------------------------------------------------------------------------


def test_knockout_windows(sightline: Run, tiny: Path, tmp_path: Path) -> None:
    import sightline as sl

    (tmp_path / "images").mkdir()
    Image.effect_noise((30, 30), 80).convert("RGB").save(tmp_path / "images" / "7.jpg")
    question = "Is there a red circle?"
    vlm = sl.load(str(tiny))
    ending = reproductions()["knockout-windows"].ending
    asked = vlm.encode(sl.Sample(prompt=question + ending, images=(tmp_path / "images" / "7.jpg",)))
    said = vlm.generate(asked, max_new_tokens=128)
    data = tmp_path / "GQA_ChooseAttr.csv"
    with data.open("w", newline="", encoding="utf-8") as file:
        rows = (
            ("question_id", "img_id", "question", "answer"),
            (1, 7, question, said.lower()),
            (2, 7, question, "never"),
        )
        csv.writer(file).writerows(rows)
    words = ("reproduce", "knockout-windows", "--model", tiny, "--data", data, "--out", "run")
    document = sightline(*words, "--json").document
    assert (document["asked"], document["right"], document["failed"], document["window"]) == (2, 1, 0, 9)
    assert list(document["flows"]) == list(FLOWS)
    assert all(len(told["change"]) == 2 for told in document["flows"].values())
    assert any(abs(value) > 1e-6 for told in document["flows"].values() for value in told["change"])
    lines = Path("run/samples.jsonl").read_text()
    told = sightline(*words).out
    assert Path("run/samples.jsonl").read_text() == lines
    for words_said in ("1 of 2 questions answered rightly", "image -> question", "none stand beside"):
        assert words_said in told
    assert "None" not in told
