"""sightline sinks, and the file that other commands take with --sinks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIELDS = {"model", "dims", "tau", "gap", "precision", "recall", "candidates", "layers"}


@pytest.fixture(scope="session")
def deep(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny LLaVA with four decoder layers and a massive activation on BOS in dimension 5."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    folder = tmp_path_factory.mktemp("models") / "deep"
    config = LlavaConfig.from_pretrained(tiny)
    config.text_config.num_hidden_layers = 4
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        model.model.language_model.embed_tokens.weight.mul_(50)
        model.model.multi_modal_projector.linear_2.weight.mul_(1000)
        model.model.language_model.embed_tokens.weight[1, 5] = 100
    model.save_pretrained(folder)
    LlavaProcessor.from_pretrained(tiny).save_pretrained(folder)
    return folder


def test_the_document_the_folder_and_going_on(sightline: Callable[..., Any], deep: Path, data: Path) -> None:
    words = ("sinks", deep, "--data", data, "--out", "run", "--json")
    document = sightline(*words, "--limit", 2).document
    assert document.keys() >= FIELDS
    assert document["dims"] == [5]
    assert document["candidates"][0] == {"dim": 5, "score": 1.0}
    assert document["samples"] == 2
    assert [layer["layer"] for layer in document["layers"]] == [2, 3]
    assert document["layers"][0]["text_sinks"] == 1.0
    assert json.loads(Path("run/sinks.json").read_text()) == document
    assert json.loads(Path("run/summary.json").read_text()) == document
    before = Path("run/samples.jsonl").read_text()
    more = sightline(*words).document
    assert (more["samples"], more["failed"]) == (3, 1)
    told = sightline(*words)
    assert "Sample s3 failed" in told.err
    assert "a few dozen tell more surely" in told.err
    assert Path("run/samples.jsonl").read_text().startswith(before)
    assert sightline(*words, "--tau", 9).sentence.startswith("run holds a run with tau")


def test_in_words(sightline: Callable[..., Any], tiny: Path, deep: Path, picture: Path) -> None:
    one = ("--image", picture, "--prompt", "What do you see?")
    ended = sightline("sinks", deep, *one)
    assert "sink dimensions 5" in ended.out
    assert "image sinks" in ended.out
    assert not Path("runs").exists()
    assert "has no sink dimensions" in sightline("sinks", tiny, *one).out


def test_the_file_is_taken(sightline: Callable[..., Any], tiny: Path, deep: Path, picture: Path) -> None:
    one = ("--image", picture, "--prompt", "What do you see?")
    assert sightline("sinks", deep, *one, "--out", "found").code == 0
    told = sightline("generate", deep, *one, "--method", "var:p=0.5", "--sinks", "found/sinks.json", "--json").document
    assert told["method"].startswith("var:dims=5,tau=")
    assert told["method"].endswith("p=0.5")
    measured = sightline("measure", deep, *one, "--method", "var", "--sinks", "found", "--json", "--new-tokens", 2)
    assert measured.document["method"].startswith("var:dims=5")
    assert measured.document["baseline"]["layers"][2]["text_sinks_mass"] is not None
    assert "other" not in measured.err
    for command in ("generate", "measure"):
        sentence = sightline(command, tiny, *one, "--sinks", "found/sinks.json").sentence
        assert "found/sinks.json are those of" in sentence
        assert "needs the model's sink dimensions" in sightline(command, tiny, *one, "--method", "var").sentence
        assert "cannot be read" in sightline(command, tiny, *one, "--sinks", "gone.json").sentence


def test_they_are_found_on_the_first_samples_and_kept_in_the_run(
    sightline: Callable[..., Any], tiny: Path, deep: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("measure", deep, "--data", data, "--limit", 2, "--new-tokens", 2, "--sinks", "auto")
    document = sightline(*words, "--method", "var", "--out", "run", "--json").document
    assert document["method"].startswith("var:dims=5,tau=")
    assert json.loads(Path("run/sinks.json").read_text())["dims"] == [5]
    with monkeypatch.context() as patch:
        patch.setattr("sightline.jobs.models.load_model", lambda *_: pytest.fail("the model was loaded"))
        assert sightline(*words, "--method", "var", "--out", "run", "--json").document == document
    assert "with one model" in sightline(*words, tiny).sentence
    one = ("--image", data.parent / "picture.png", "--prompt", "What?")
    assert "by measure and eval alone" in sightline("generate", deep, *one, "--sinks", "auto").sentence


def test_a_method_that_changes_nothing_is_told(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    one = ("--image", picture, "--prompt", "What do you see?", "--new-tokens", 2)
    ended = sightline("generate", tiny, *one, "--method", "var:dims=3,tau=20")
    assert ended.code == 0
    assert "Note: var changes nothing: no phi exceeds" in ended.err


def test_the_file_of_a_model_without_sinks_is_taken(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    one = ("--image", picture, "--prompt", "What do you see?")
    assert sightline("sinks", tiny, *one, "--out", "found", "--json").document["dims"] == []
    measured = sightline("measure", tiny, *one, "--queries", "prompt", "--method", "var", "--sinks", "found/sinks.json")
    assert measured.code == 0, measured.err
    assert "changes nothing: no sinks were found in this model" in measured.err


def test_the_file_is_bound_to_the_weights(
    sightline: Callable[..., Any], deep: Path, picture: Path, tmp_path: Path
) -> None:
    one = ("--image", picture, "--prompt", "What do you see?")
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(deep, moved)
    assert sightline("sinks", moved, *one, "--out", "found").code == 0
    shutil.move(moved, other)
    words = ("--image", picture, "--prompt", "What?", "--new-tokens", 1, "--method", "var", "--sinks", "found")
    assert sightline("generate", other, *words).code == 0
    shutil.copytree(other, moved)
    with (moved / "model.safetensors").open("r+b") as weights:
        weights.seek(-4, 2)
        weights.write(b"\0\0\0\0")
    assert f"found on other weights than those that {moved} holds now" in sightline("generate", moved, *words).sentence
    document = json.loads(Path("found/sinks.json").read_text())
    Path("found/sinks.json").write_text(json.dumps(document | {"content": None}))
    ended = sightline("generate", moved, *words)
    assert ended.code == 0
    assert f"do not tell on which weights of {moved}" in ended.err


def test_a_file_with_nonsense_is_refused(sightline: Callable[..., Any], deep: Path, picture: Path) -> None:
    good = {"model": "m", "dims": [5], "tau": 3.0, "candidates": [], "layers": []}
    for wrong in ({"dims": "5"}, {"dims": [-1]}, {"dims": [1.5]}, {"tau": 0}, {"tau": "high"}, {"layers": 3}):
        Path("sinks.json").write_text(json.dumps(good | wrong))
        words = ("--image", picture, "--prompt", "What?", "--sinks", "sinks.json")
        assert "sinks.json is no sinks file" in sightline("generate", deep, *words).sentence


def test_mistakes(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    assert "There is nothing to measure" in sightline("sinks", tiny).sentence
    assert "--tau" in sightline("sinks", tiny, "--data", data, "--tau", 0).sentence
    ended = sightline("sinks", tiny, "--data", data, "--factor", "inf", "--out", "run")
    assert (ended.code, ended.sentence) == (2, "factor is inf: give a number above 0.")
    assert not Path("run").exists()
    assert (
        "Layer 9 is out of range"
        in sightline(
            "generate", tiny, "--image", data.parent / "picture.png", "--prompt", "x", "--method", "var:dims=3,layers=9"
        ).sentence
    )
