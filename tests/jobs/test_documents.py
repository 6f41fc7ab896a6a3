"""Every job's document is its command's, and its results are there without a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sightline as sl
from sightline.cli.main import cli

TIMES = (
    "seconds",
    "seconds_per_item",
    "prefill_seconds",
    "prefill_seconds_per_item",
    "times_the_first",
    "times_the_first_ci95",
    "started",
)
PLACES = ("answers", "folder", "report", "path")

LONG = ["id", "model", "method", "layer", "stage", "head", "image", "answer", "value"]


def printed(*words: object) -> dict[str, Any]:
    """The document of a command."""
    ended = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


def without(document: Any, names: tuple[str, ...] = (*TIMES, *PLACES)) -> Any:
    """Without seconds, times and folders."""
    if isinstance(document, dict):
        return {name: without(value, names) for name, value in document.items() if name not in names}
    return [without(value, names) for value in document] if isinstance(document, list) else document


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def require_same(found: dict[str, Any], command: dict[str, Any]) -> None:
    """Byte for byte, the order of the fields included."""
    assert json.dumps(without(found)) == json.dumps(without(command))


def test_measure() -> None:
    found = sl.measure("tiny-llava", "shapes", limit=3)
    assert not list(Path.cwd().iterdir())
    require_same(found.to_dict(), printed("measure", "tiny-llava", "--data", "shapes", "--limit", 3))
    table = found.to_pandas()
    assert list(table.columns)[:9] == LONG
    mdi = table[(table.metric == "mdi") & (table.layer == 0)].value
    assert mdi.mean() == pytest.approx(found.to_dict()["layers"][0]["mdi"])
    assert set(table.stage.dropna()) <= {"early", "middle", "late"}


def test_evaluate() -> None:
    found = sl.evaluate("tiny-llava-early", ["shapes-pope"], methods=["none", sl.VCD()], limit=12)
    assert not list(Path.cwd().iterdir())
    words = ("--bench", "shapes-pope", "--method", "none", "--method", "vcd", "--limit", 12)
    require_same(found.to_dict(), printed("eval", "tiny-llava-early", *words))
    assert list(found.to_dict()["methods"]) == ["none", "vcd"]
    table = found.to_pandas()
    assert list(table.columns)[:9] == LONG
    accuracy = table[table.method == "vcd"].value.mean()
    assert accuracy == pytest.approx(found.to_dict()["methods"]["vcd"]["accuracy"])


def test_find_sinks() -> None:
    found = sl.find_sinks("tiny-llava", "shapes", limit=2)
    require_same(found.to_dict(), printed("sinks", "tiny-llava", "--data", "shapes", "--limit", 2))


def test_score() -> None:
    sl.evaluate("tiny-llava", "shapes-pope", limit=6, out="run")
    found = sl.score("shapes-pope", "run")
    require_same(found.to_dict(), printed("score", "shapes-pope", "--answers", "run"))
    assert found.to_pandas().value.mean() == pytest.approx(found.to_dict()["accuracy"])
    assert list(found.to_pandas().columns)[:9] == LONG
    assert found.compare(found).loc[0, "delta"] == 0
    assert found.plot().get_yticklabels()[0].get_text() == "all"


def test_compare() -> None:
    sl.evaluate("tiny-llava", "shapes-pope", methods=["none", "vaf"], limit=6, out="run")
    found = sl.compare("shapes-pope", "run", "run", methods=("none", "vaf"))
    command = ("compare", "shapes-pope", "--answers", "run", "--answers", "run", "--method", "none", "--method", "vaf")
    require_same(found.to_dict(), printed(*command))
    assert sl.read_run(found.save("pair")).to_dict() == json.loads(json.dumps(found.to_dict()))
    assert list(found.to_pandas().columns)[:9] == LONG
    assert [label.get_text() for label in found.plot().get_yticklabels()] == ["vaf, shapes-pope"]


def test_reproduce() -> None:
    words = {"model": "tiny-llava", "data": "shapes-pope", "limit": 3}
    found = sl.reproduce("pai-pope", **words, out="run")
    command = ("reproduce", "pai-pope", "--model", "tiny-llava", "--data", "shapes-pope", "--limit", 3)
    require_same(found.to_dict(), printed(*command))
    again = sl.read_run("run")
    assert again.to_dict() == found.to_dict()
    assert list(again.to_pandas().columns)[:9] == LONG
    assert len(again.plot().lines) == 2


def test_impact() -> None:
    _file()
    sample = sl.read_samples("data.jsonl")[0]
    words = ("--image", "picture.png", "--prompt", sample.prompt, "--tokens", "image", "--block", 6)
    command = printed("impact", "tiny-llava", *words, "--out", "run")
    found = sl.impact("tiny-llava", sample, tokens="image", block=6, out="again")
    require_same(found.to_dict(), command)
    assert sl.read_run("again").to_dict() == json.loads(json.dumps(found.to_dict()))
    one = sl.impact("tiny-llava", sample, tokens="image", block=6)
    assert one.to_dict()["maps"] == command["maps"]
    two = sl.impact("tiny-llava", "data.jsonl", tokens="image", block=6)
    assert [len(each.maps) for each in two.prompts.values()] == [1, 1]
    assert [line["id"] for line in two.to_dict()["prompts"]] == ["red", "blue"]
    table = two.to_pandas()
    assert list(table.columns)[:9] == LONG
    assert set(table.id) == {"red", "blue"}
    assert (two.compare(two)["difference"] == 0).all()
    assert len(two.plot().lines) == 1


def test_a_full_disk_marks_no_prompt_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    _file()
    with monkeypatch.context() as patch:
        patch.setattr("sightline.jobs.impact_files._write_table", full)
        with pytest.raises(sl.SightlineError, match="the disk is full"):
            sl.impact("tiny-llava", "data.jsonl", tokens="image", block=6, out="run")
    assert sl.impact("tiny-llava", "data.jsonl", tokens="image", block=6, out="run").to_dict()["failed"] == 0


def test_generate_report_and_train() -> None:
    from sightline.jobs.generate import generate

    _file()
    sample = sl.read_samples("data.jsonl")[0]
    words = ("--image", "picture.png", "--prompt", sample.prompt, "--new-tokens", 3)
    require_same(generate("tiny-llava", sample, new_tokens=3).to_dict(), printed("generate", "tiny-llava", *words))
    sl.measure("tiny-llava", "data.jsonl", new_tokens=2, out="run")
    page = sl.report("run", "a.html").to_dict()
    assert {**printed("report", "run", "--out", "a.html"), "bytes": 0} == {**page, "bytes": 0}
    quick: dict[str, Any] = {"steps": 1, "batch_size": 2, "limit": 4}
    found = sl.train("tiny-llava-early", "shapes", out="t", eval_limit=0, **quick).to_dict()
    options = ("--steps", 1, "--batch-size", 2, "--limit", 4, "--no-eval", "--out", "u")
    require_same(found, printed("train", "tiny-llava-early", "--data", "shapes", *options))
    again = sl.read_run("u")
    require_same(again.to_dict(), found)
    assert list(again.to_pandas().columns)[:9] == LONG
    assert again.plot(metric="language").lines


def test_models_in_memory_are_taken() -> None:
    vlm = sl.load("tiny-llava")
    named = sl.measure("tiny-llava", "shapes", limit=2).to_dict()
    assert sl.measure(vlm, "shapes", limit=2).to_dict() == named
    bare = sl.measure(vlm.model, "shapes", limit=2, processor=vlm.processor).to_dict()
    assert bare["layers"] == named["layers"]
    with pytest.raises(sl.InputError, match="in memory already, so dtype has no effect"):
        sl.measure(vlm, "shapes", dtype="float16")
    with pytest.raises(sl.InputError, match="give processor="):
        sl.measure(vlm.model, "shapes")


def test_data_in_memory_is_taken() -> None:
    samples = sl.read_samples(_file())
    by_file = sl.measure("tiny-llava", "data.jsonl", new_tokens=2).to_dict()
    assert sl.measure("tiny-llava", samples, new_tokens=2).to_dict() == by_file
    assert sl.measure("tiny-llava", samples[0], new_tokens=2).to_dict()["samples"] == 1


def test_other_weights_in_memory_do_not_continue_a_run() -> None:
    import torch

    vlm = sl.load("tiny-llava")
    sl.measure(vlm, "shapes", limit=1, out="run")
    assert sl.measure(vlm, "shapes", limit=2, out="run").to_dict()["samples"] == 2
    with torch.no_grad():
        next(vlm.model.parameters()).add_(0.1)
    with pytest.raises(sl.InputError, match="weights of tiny-llava"):
        sl.measure(vlm, "shapes", limit=3, out="run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limt": 3}, "did you mean limit"),
        ({"limit": 0}, "limit is 0: give a whole number from 1 on"),
        ({"queries": "answers"}, "give generated or prompt or all"),
        ({"device": "toaster"}, "'toaster' is no device"),
        ({"retry_failed": "yes"}, "give True or False"),
        ({"seed": 1.5}, "seed is 1.5"),
    ],
)
def test_settings_are_checked_in_a_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(sl.InputError, match=message):
        sl.measure("tiny-llava", "shapes", **fields)


def _file() -> Path:
    from PIL import Image

    Image.effect_noise((48, 48), 60).convert("RGB").save("picture.png")
    lines = [{"id": name, "image": "picture.png", "prompt": f"Is there a {name} circle?"} for name in ("red", "blue")]
    Path("data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Path("data.jsonl")
