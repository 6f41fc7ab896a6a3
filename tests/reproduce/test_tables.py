"""sl.reproduce: every published table, end to end, on a tiny model of its family and data in official files."""

from __future__ import annotations

import csv
import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import sightline as sl
from benchmarks.tables import png, write_parquet
from model_folders import save, save_llava, save_qwen2_audio
from sightline.cli.main import cli
from sightline.errors import InputError
from sightline.jobs.reproduction_plan import ReproduceSettings, ReproductionPlan
from sightline.methods.registry import find_method
from sightline.probes.dominance import PUBLISHED
from sightline.probes.sinks import Sinks
from sightline.published import FLOWS, reproductions
from sightline.published import table as settings
from sightline.published.table import TABLES, read_reproduction
from support.coco import write_split
from support.runs import lines_of

NAMES = sorted(path.stem for path in TABLES.glob("*.yaml"))


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def reproduced(name: str, model: Path, data: Path | str, **fields: Any) -> dict[str, Any]:
    """The document of a table on this model and these data."""
    return sl.reproduce(name, model=str(model), data=str(data), **fields).to_dict()


def printed(name: str, model: Path, data: Path | str, **fields: Any) -> str:
    """What the command says of it."""
    options = [word for key, value in fields.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    ended = CliRunner().invoke(cli, ["reproduce", name, "--model", str(model), "--data", str(data), *options])
    assert ended.exit_code == 0, ended.stderr
    return ended.stdout


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


# MDI and AEI ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mmmu(tmp_path: Path) -> Path:
    rows = [
        {"id": f"test_Music_{number}", "image": png("red"), "options": "['a', 'b']", "answer": "A", "subject": "Music"}
        for number in range(2)
    ]
    write_parquet(tmp_path / "mmmu" / "vision" / "test-00000-of-00001.parquet", rows, ["image"])
    return tmp_path / "mmmu"


def test_image(tiny: Path, mmmu: Path) -> None:
    fields: dict[str, Any] = {"out": "run", "batch_size": 2}
    document = reproduced("langoverrule-image", tiny, mmmu, **fields)
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
    again = printed("langoverrule-image", tiny, mmmu, **fields)
    assert Path("run/samples.jsonl").read_text() == lines
    for said in ("17.37", "reported", "Nothing is reproduced or refuted by this run.", "not known to us", "90% of"):
        assert said in again
    with pytest.raises(InputError, match="holds a run with methods"):
        reproduced("langoverrule-compression", tiny, mmmu, **fields)


def test_under_the_published_model_and_data_the_verdict_changes(tiny: Path, mmmu: Path) -> None:
    named = shutil.copytree(tiny, Path("weights") / "llava-1.5-7b-hf")
    assert "Model and data are, by their names, the published ones." in printed("langoverrule-image", named, mmmu)
    assert reproduced("langoverrule-image", named, mmmu, limit=1)["deviations"] == ["Only 1 of 2 items were run."]


def test_compression(tiny: Path) -> None:
    document = reproduced("langoverrule-compression", tiny, "shapes", limit=1)
    assert [told["tokens"]["image"] for told in document["models"]] == [9.0, 2.0, 1.0, 1.0]
    assert len(document["beside"]) == 24
    assert "The data are shapes, and the published ones mmmu-pro." in document["deviations"]
    assert any("misprint" in (row["note"] or "") for row in document["beside"])


def test_audio(tmp_path: Path) -> None:
    model = save_qwen2_audio(tmp_path / "Qwen2-Audio")
    for name, count in (("a.wav", 8000), ("b.wav", 12000)):
        with wave.open(str(tmp_path / name), "wb") as sound:
            sound.setparams((1, 2, 16000, 0, "NONE", ""))
            sound.writeframes(bytes(range(200)) * (count * 2 // 200))
    lines = [{"id": name, "audio": f"{name}.wav", "prompt": "What does the speaker feel?"} for name in ("a", "b")]
    data = tmp_path / "iemocap.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    document = reproduced("langoverrule-audio", model, data, batch_size=2)
    once, five, ten = (told["tokens"]["audio"] for told in document["models"])
    assert once == 6.0  # five tokens and seven
    assert (five, ten) == (5 * once, 10 * once)
    assert [row["published"] for row in document["beside"] if row["figure"] == "late mdi"] == [1.16, 6.73, 8.70]
    assert all(row["ours"] is not None for row in document["beside"])


def test_video(tmp_path: Path) -> None:
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
    document = reproduced("langoverrule-video", model, tmp_path / "bench.jsonl")
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
def test_pope(llava: Path, pope: Path, sinks: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = reproductions()[name]
    monkeypatch.setattr(settings, "reproductions", lambda: {name: replace(table, new_tokens=2)})
    fields: dict[str, Any] = {"out": "run", **({"sinks": sinks} if name == "var-pope" else {})}
    document = reproduced(name, llava, pope, **fields)
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
    told = printed(name, llava, pope, **fields)
    assert Path("run/samples.jsonl").read_text() == lines
    assert ("No published figure could be sourced" in told) == (name == "var-pope")


def test_a_single_file_of_a_benchmark_is_its_path(pope: Path, tmp_path: Path) -> None:
    lines = (pope / "coco_pope_random.json").rename(pope / "coco_pope_random.jsonl")
    tables = reproductions()

    def source(name: str, data: object) -> str:
        return ReproductionPlan(tables[name], ReproduceSettings(data=str(data))).source()

    assert source("vcd-pope", lines) == f"pope:{lines}"
    assert source("vcd-pope", "shapes-pope") == "shapes-pope"
    assert source("langoverrule-image", lines) == str(lines)
    assert source("langoverrule-image", pope) == f"mmmu-pro:{pope}"


def test_a_table_on_other_questions_of_a_benchmark_does_not_take_the_hubs(pope: Path, tmp_path: Path) -> None:
    table = reproductions()["dmas-pope-gqa"]
    with pytest.raises(InputError, match="dmas-pope-gqa needs --data"):
        ReproductionPlan(table, ReproduceSettings()).source()
    (note,) = ReproductionPlan(table, ReproduceSettings(data=str(pope), model=table.model)).deviations(9, 9, 0)
    assert note == "The data are not those of gqa_pope_*, which the published ones are."
    (tmp_path / "gqa_pope_random.json").write_text("{}")
    assert not ReproductionPlan(table, ReproduceSettings(data=str(tmp_path), model=table.model)).deviations(9, 9, 0)


def test_drawn_answers_are_the_seeds(tiny: Path, pope: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(reproductions()["vcd-pope"], new_tokens=3)
    monkeypatch.setattr(settings, "reproductions", lambda: {"vcd-pope": short})

    def texts(**fields: Any) -> list[str]:
        out = Path("run") / str(fields)
        reproduced("vcd-pope", tiny, pope, out=out, **fields)
        return sorted(line["result"]["response"] for line in lines_of(out))

    first = texts(seed=1)
    assert texts(seed=1, batch_size=1) == first
    assert texts(seed=2) != first


@pytest.mark.parametrize("name", ["vcd-chair", "vista-chair", "var-chair"])
def test_chair(llava: Path, coco: Path, sinks: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(reproductions()[name], new_tokens=4)
    monkeypatch.setattr(settings, "reproductions", lambda: {name: short})
    (coco / "list.txt").write_text("42\n")
    more = {"sinks": sinks} if name == "var-chair" else {}
    document = reproduced(name, llava, coco, image_list=coco / "list.txt", **more)
    assert document["items"] == {"asked": 1, "of": 1}
    assert {row["figure"] for row in document["beside"]} >= {"chair_s", "chair_i"}
    assert all(told["n"] == 1 for told in document["methods"].values())


# Flows ----------------------------------------------------------------------------------------------------------------


def test_knockout_windows(tiny: Path, tmp_path: Path) -> None:
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
    document = reproduced("knockout-windows", tiny, data, out="run")
    assert (document["asked"], document["right"], document["failed"], document["window"]) == (2, 1, 0, 9)
    assert list(document["flows"]) == list(FLOWS)
    assert all(len(told["change"]) == 2 for told in document["flows"].values())
    assert any(abs(value) > 1e-6 for told in document["flows"].values() for value in told["change"])
    lines = Path("run/samples.jsonl").read_text()
    told = printed("knockout-windows", tiny, data, out="run")
    assert Path("run/samples.jsonl").read_text() == lines
    for words_said in ("1 of 2 questions answered rightly", "image -> question", "none stand beside"):
        assert words_said in told
    assert "None" not in told
