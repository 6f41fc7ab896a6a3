"""sightline impact: what it prints, what it writes, that it continues; each wrong wish in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

ASK = ("--prompt", "is there a red circle ?")


@pytest.mark.usefixtures("drawn")
def test_the_document_and_the_files(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    ended = sightline("impact", tiny, "--image", picture, *ASK, "--out", "run", "--control", 2, "--json")
    document = ended.document
    assert (document["model"], document["mode"], document["layers"]) == (str(tiny), "causal", 2)
    assert set(document["maps"]) == {"logit", "prob", "logprob", "kl", "flip"}
    count = len(document["tokens"])
    assert [len(row) for row in document["maps"]["kl"]] == [count] * 2
    assert sum(token["modality"] == "image" for token in document["tokens"]) == 9
    assert {"position", "text", "modality", "row", "col"} <= document["tokens"][0].keys()
    assert len(document["controls"]["tokens"]) == 4, "two of a text token's size, two of a patch's"
    assert document["settings"]["control"] == 2
    assert 0 < document["baseline"]["prob"] < 1
    assert document["reference"]["image"].keys() == {"row", "every-row"}
    table = pd.read_csv("run/impact.csv")
    assert len(table) == 2 * (count + 4)
    assert table["patch_row"].max() == 2
    assert json.loads(Path("run/impact.json").read_text()) == document
    parts = document["every_row"]
    assert [len(token["positions"]) for token in parts["tokens"]] == [1] * 9, "nine patches are few enough"
    assert parts["settings"]["layers_cut"] == "all"
    names = {path.name for path in Path("run/figures").iterdir()}
    drawn = ("heat_map", "overlay", "overlay_every_row")
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert json.loads(Path("run/run.json").read_text())["settings"]["settings"]["window"] == 1


def test_the_tables(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    words = ("--mode", "local", "--per-head", "--block", 2, "--control", 2)
    ended = sightline("impact", tiny, "--image", picture, *ASK, *words)
    assert ended.code == 0, ended.err
    for word in ("predicts", "Largest effects", "rows 0-1, columns 0-1", "Mean size", "image"):
        assert word in ended.out
    for word in ("random text", "random image"):
        assert word in ended.out, "controls of each modality, beside its own sources"
    assert (
        "All of the image" in sightline("impact", tiny, "--image", picture, *ASK, "--unit", "word", "--out", "run").out
    )
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("impact-picture-")
    assert str(folder) in ended.err
    assert any(name.startswith("l2_head") for name in pd.read_csv(folder / "impact.csv").columns)


def test_over_an_answer(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    words = ("impact", tiny, "--image", picture, *ASK, "--new-tokens", 2, "--unit", "modality", "--out", "run")
    document = sightline(*words, "--json").document
    assert 1 <= len(document["new_tokens"]) <= 2
    assert isinstance(document["text"], str)
    rows = [each["row"] for each in document["new_tokens"]]
    assert rows == list(range(rows[0], rows[0] + len(rows)))
    table = pd.read_csv("run/impact.csv")
    assert table["token"].nunique() == len(rows)
    assert "answers:" in sightline(*words).out


@pytest.mark.parametrize("mode", ["vision", "tower"])
def test_the_vision_side(sightline: Callable[..., Any], tiny: Path, picture: Path, mode: str) -> None:
    document = sightline("impact", tiny, "--image", picture, *ASK, "--mode", mode, "--block", 2, "--json").document
    assert document["mode"] == mode
    assert len(document["tokens"]) == 4
    assert document["layers"] == (1 if mode == "vision" else 2)


def test_it_is_read_and_not_done_again(
    sightline: Callable[..., Any], tiny: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("impact", tiny, "--image", picture, *ASK, "--out", "run", "--json")
    first = sightline(*words).document
    with monkeypatch.context() as patch:
        patch.setattr("sightline.jobs.models.load_model", lambda *_: pytest.fail("the model was loaded"))
        assert sightline(*words).document == first
    refused = sightline(*words, "--seed", 3)
    assert refused.code == 2
    assert "seed = " in refused.sentence


# A file of prompts --------------------------------------------------------------------------------------------------

CONFIG = """
settings: {unit: word, tokens: text}
images: picture.png
prompts:
  - is there a red circle ?
  - {id: "../second", prompt: "what do you see ?", image: picture.png, settings: {mode: local}}
  - {id: broken, prompt: "how many ?", image: broken.png}
"""


@pytest.fixture
def config(picture: Path) -> Path:
    path = picture.parent / "prompts.yaml"
    path.write_text(CONFIG)
    (picture.parent / "broken.png").write_bytes(b"no image")
    return path


def test_a_file_of_prompts(
    sightline: Callable[..., Any], tiny: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("impact", tiny, "--config", config, "--out", "run", "--json")
    document = sightline(*words).document
    assert [entry["id"] for entry in document["prompts"]] == ["1", "../second", "broken"]
    assert document["failed"] == 1
    assert "broken.png cannot be read" in document["prompts"][2]["error"]
    assert {path.name for path in Path("run/prompts").iterdir()} == {"001-1", "002-second"}
    assert [entry.get("mode") for entry in document["prompts"]] == ["causal", "local", None]
    second = json.loads(Path("run/prompts/002-second/impact.json").read_text())
    assert second["prompt"] == "what do you see ?"
    assert {token["modality"] for token in second["tokens"]} == {"text"}
    with monkeypatch.context() as patch:
        patch.setattr("sightline.jobs.models.load_model", lambda *_: pytest.fail("the model was loaded"))
        assert sightline(*words).document == document
        assert "largest effects" in sightline(*words[:-1]).out
    shutil.rmtree("run/prompts/001-1")
    assert sightline(*words).document["prompts"][0] == document["prompts"][0]
    assert Path("run/prompts/001-1/impact.csv").exists(), "what was deleted is made again"
    config.write_text(CONFIG.replace("unit: word", "unit: token"))
    assert "with other prompts" in sightline(*words).sentence


def test_the_command_line_overrules_the_file(sightline: Callable[..., Any], tiny: Path, config: Path) -> None:
    document = sightline("impact", tiny, "--config", config, "--mode", "local", "--json").document
    assert [entry.get("mode") for entry in document["prompts"]] == ["local", "local", None]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "has no prompts"),
        ("- a\n- b", "no YAML of `prompts:` and a list"),
        ("prompts: []", "has no prompts"),
        ("prompts: hello", "has no prompts"),
        ("prompt: [hello]", "There is no key 'prompt' in {file}: did you mean 'prompts'"),
        ("prompts: [hello]\nsettings: {windw: 3}", "There is no key 'windw' in the settings of {file}: did you mean"),
        ("prompts: [hello]\nsettings: {window: nine}", "window in the settings of {file} is 'nine'; it takes a whole"),
        ("prompts: [hello]\nsettings: {window: true}", "is True; it takes a whole number"),
        ("prompts: [hello]\nsettings: {mode: 3}", "mode in the settings of {file} is 3; it takes a word"),
        ("prompts: [hello]\nsettings: {mode: sideways}", "There is no mode called 'sideways'"),
        ("prompts: [hello]\nsettings: {layers: [[1]]}", "it takes a list of layers"),
        ("prompts: [{prompt: hello, colour: red}]", "There is no key 'colour' in the prompt 1 of {file}: it takes id"),
        ("prompts: [{prompt: ''}]", "prompt 1 of {file} has no text"),
        ("prompts: [{id: a}]", "prompt 1 of {file} has no text"),
        ("prompts: [7]", "prompt 1 of {file} is neither"),
        ("prompts: [{prompt: a, image: x.png}]", "x.png of the prompt 1 of {file} does not exist"),
        ("prompts: [{prompt: a, image: 3}]", "are no file names"),
        ("prompts: [{prompt: a, id: x}, {prompt: b, id: x}]", "two prompts with the id 'x'"),
        ("prompts: [a]\n\tb: 1", "no valid YAML at line 2"),
        ("a: &a [*a, *a]\nprompts: [x]", "There is no key 'a'"),
        ("prompts: [!!python/object:os.system x]", "no valid YAML"),
    ],
)
def test_each_wrong_file_is_one_sentence(
    sightline: Callable[..., Any], tmp_path: Path, content: str, sentence: str
) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(content)
    ended = sightline("impact", "tiny-llava", "--config", path)
    assert ended.code == 2
    assert sentence.format(file=path) in ended.sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "nothing to look at"),
        (("--image", "none.png", *ASK), "none.png does not exist"),
        ((*ASK, "--row", "first"), "not a position, last or all"),
        ((*ASK, "--row", "all"), "reads one row"),
        ((*ASK, "--layers", "4-2"), "is no layer"),
        ((*ASK, "--positions", "1,,2"), "a position"),
        ((*ASK, "--config", "prompts.yaml"), "not both"),
        (("--config", "none.yaml"), "none.yaml cannot be read"),
        ((*ASK, "--mode", "vision", "--window", "9"), "has no setting window"),
        ((*ASK, "--mode", "vision", "--compare", "tiny-llava"), "compared in the modes local and causal"),
        ((*ASK, "--window", "0"), "0 is not in the range"),
    ],
)
def test_each_wrong_wish_is_one_sentence(sightline: Callable[..., Any], words: tuple[str, ...], sentence: str) -> None:
    ended = sightline("impact", "tiny-llava", *words)
    assert ended.code == 2
    assert sentence in ended.sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--row", 900), "The row 900 is outside the prompt"),
        (("--positions", "12", "--row", 11), "stands after the row 11"),
        (("--layers", 7), "7"),
        (("--target", 10_000), "no token 10000"),
        (("--positions", "3,4+5,5+4"), "name 4+5 twice"),
        (("--mode", "deepstack"), "adds no vision features"),
        (("--row", 0), "Nothing stands before the row 0"),
    ],
)
def test_what_the_model_tells(
    sightline: Callable[..., Any], tiny: Path, picture: Path, words: tuple[Any, ...], sentence: str
) -> None:
    ended = sightline("impact", tiny, "--image", picture, *ASK, *words, "--out", "run")
    assert ended.code == 2
    assert sentence in ended.sentence
    assert not Path("run").exists(), "a wrong wish leaves no folder"


# Two models ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sibling(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of three layers that cuts words as `tiny` does."""
    import torch
    from transformers import AutoProcessor, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "sibling"
    tokenizer = AutoProcessor.from_pretrained(tiny).tokenizer
    torch.manual_seed(1)
    LlamaForCausalLM(
        LlamaConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=2,
            vocab_size=len(tokenizer),
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("drawn")
def test_two_models(sightline: Callable[..., Any], tiny: Path, sibling: Path, picture: Path) -> None:
    words = ("impact", tiny, "--image", picture, *ASK, "--compare", sibling, "--out", "run")
    document = sightline(*words, "--json").document
    texts = [token["text"] for token in document["aligned"]["tokens"]]
    assert "circle" in texts
    assert len(document["aligned"]["depths"]) == 3
    assert sum(token["modality"] == "image" for token in document["unaligned"]["a"]) == 9
    assert not any(token["modality"] == "image" for token in document["unaligned"]["b"])
    assert {path.name for path in Path("run/figures").iterdir()} == {"compare.png", "compare.svg"}
    assert Path("run/impact_b.csv").exists()
    ended = sightline(*words)
    assert ended.code == 0, ended.err
    assert "9 patches" in ended.out


def test_a_text_only_model(sightline: Callable[..., Any], sibling: Path, picture: Path) -> None:
    document = sightline("impact", sibling, *ASK, "--unit", "word", "--json").document
    assert {token["modality"] for token in document["tokens"]} == {"text"}
    assert document["layers"] == 3
    refused = sightline("impact", sibling, "--image", picture, *ASK)
    assert "reads text alone" in refused.sentence
    assert "no image token" in sightline("impact", sibling, *ASK, "--tokens", "image").sentence


def test_large_pictures_are_taken(sightline: Callable[..., Any], tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (3000, 2), "red").save(path)
    assert sightline("impact", tiny, "--image", path, *ASK, "--unit", "modality").code == 0
