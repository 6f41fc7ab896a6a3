"""sl.impact: its document and files, that it continues, a file of prompts, two models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import sightline as sl
from sightline.jobs.impact import run_impact
from sightline.jobs.impact_config import read_config
from sightline.jobs.impact_plan import ImpactPlan, ImpactSettings
from sightline.jobs.models import model_sources

NO_MODEL = "sightline.jobs.models.load_model"
Seen = Callable[..., dict[str, Any]]


@pytest.fixture
def seen(tiny: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The document of one prompt about the photograph, in an empty folder, as it is kept in the run folder `run`."""
    monkeypatch.chdir(tmp_path)
    sample = sl.Sample(prompt="is there a red circle ?", images=(picture,))

    def impact(model: Path = tiny, sample: sl.Sample = sample, out: str = "run", **fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = sl.impact(str(model), sample, out=out, **fields).to_dict()
        return found

    return impact


@pytest.mark.usefixtures("drawn")
def test_the_document_and_the_files(seen: Seen, tiny: Path) -> None:
    document = seen(control=2)
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
    assert json.loads(Path("run/impact.json").read_text()) == json.loads(json.dumps(document))
    parts = document["every_row"]
    assert [len(token["positions"]) for token in parts["tokens"]] == [1] * 9, "nine patches are few enough"
    assert parts["settings"]["layers_cut"] == "all"
    names = {path.name for path in Path("run/figures").iterdir()}
    drawn = ("heat_map", "overlay", "overlay_every_row")
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}
    assert json.loads(Path("run/run.json").read_text())["settings"]["settings"]["window"] == 1


def test_over_an_answer(seen: Seen) -> None:
    document = seen(new_tokens=2, unit="modality")
    assert 1 <= len(document["new_tokens"]) <= 2
    assert isinstance(document["text"], str)
    rows = [each["row"] for each in document["new_tokens"]]
    assert rows == list(range(rows[0], rows[0] + len(rows)))
    assert pd.read_csv("run/impact.csv")["token"].nunique() == len(rows)


@pytest.mark.parametrize("mode", ["vision", "tower"])
def test_the_vision_side(seen: Seen, mode: str) -> None:
    document = seen(mode=mode, block=2)
    assert document["mode"] == mode
    assert len(document["tokens"]) == 4
    assert document["layers"] == (1 if mode == "vision" else 2)


def test_it_is_read_and_not_done_again(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    first = seen()
    with monkeypatch.context() as patch:
        patch.setattr(NO_MODEL, lambda *_: pytest.fail("the model was loaded"))
        assert seen() == json.loads(json.dumps(first))
    with pytest.raises(sl.InputError, match="seed = "):
        seen(seed=3)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"row": 900}, "The row 900 is outside the prompt"),
        ({"positions": [12], "row": 11}, "stands after the row 11"),
        ({"layers": [7]}, "7"),
        ({"target": 10_000}, "no token 10000"),
        ({"positions": [3, (4, 5), (5, 4)]}, r"name 4\+5 twice"),
        ({"mode": "deepstack"}, "adds no vision features"),
        ({"row": 0}, "Nothing stands before the row 0"),
    ],
)
def test_what_the_model_tells(seen: Seen, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(sl.InputError, match=sentence):
        seen(**fields)
    assert not Path("run").exists(), "a wrong wish leaves no folder"


def test_large_pictures_are_taken(seen: Seen) -> None:
    Image.new("RGB", (3000, 2), "red").save("wide.png")
    assert seen(sample=sl.Sample(prompt="red ?", images=("wide.png",)), unit="modality")["maps"]


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
def config(picture: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(picture.parent)
    path = picture.parent / "prompts.yaml"
    path.write_text(CONFIG)
    (picture.parent / "broken.png").write_bytes(b"no image")
    return path


def of_file(model: Path, config: Path, out: str | None = "run", **given: Any) -> dict[str, Any]:
    """What `--config` does; given: options of the command line."""
    settings = ImpactSettings()
    (source,) = model_sources(str(model), settings)
    plan = ImpactPlan(source, tuple(read_config(config, given, 0)), settings)
    found: dict[str, Any] = run_impact(plan, None if out is None else Path(out)).to_dict()
    return found


def test_a_file_of_prompts(tiny: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = of_file(tiny, config)
    assert [entry["id"] for entry in document["prompts"]] == ["1", "../second", "broken"]
    assert document["failed"] == 1
    assert "broken.png cannot be read" in document["prompts"][2]["error"]
    assert {path.name for path in Path("run/prompts").iterdir()} == {"001-1", "002-second"}
    assert [entry.get("mode") for entry in document["prompts"]] == ["causal", "local", None]
    second = json.loads(Path("run/prompts/002-second/impact.json").read_text())
    assert second["prompt"] == "what do you see ?"
    assert {token["modality"] for token in second["tokens"]} == {"text"}
    with monkeypatch.context() as patch:
        patch.setattr(NO_MODEL, lambda *_: pytest.fail("the model was loaded"))
        assert of_file(tiny, config) == document
    shutil.rmtree("run/prompts/001-1")
    assert of_file(tiny, config)["prompts"][0] == document["prompts"][0]
    assert Path("run/prompts/001-1/impact.csv").exists(), "what was deleted is made again"
    config.write_text(CONFIG.replace("unit: word", "unit: token"))
    with pytest.raises(sl.InputError, match="with other prompts"):
        of_file(tiny, config)


def test_the_command_line_overrules_the_file(tiny: Path, config: Path) -> None:
    document = of_file(tiny, config, None, mode="local")
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
def test_each_wrong_file_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "prompts.yaml"
    path.write_text(content)
    with pytest.raises(sl.InputError) as refused:
        read_config(path, {}, 0)
    assert sentence.format(file=path) in str(refused.value)


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
def test_two_models(seen: Seen, sibling: Path) -> None:
    document = seen(compare=str(sibling))
    texts = [token["text"] for token in document["aligned"]["tokens"]]
    assert "circle" in texts
    assert len(document["aligned"]["depths"]) == 3
    assert sum(token["modality"] == "image" for token in document["unaligned"]["a"]) == 9
    assert not any(token["modality"] == "image" for token in document["unaligned"]["b"])
    assert {path.name for path in Path("run/figures").iterdir()} == {"compare.png", "compare.svg"}
    assert Path("run/impact_b.csv").exists()


def test_a_text_only_model(seen: Seen, sibling: Path) -> None:
    words = sl.Sample(prompt="is there a red circle ?")
    document = seen(sibling, words, unit="word")
    assert {token["modality"] for token in document["tokens"]} == {"text"}
    assert document["layers"] == 3
    with pytest.raises(sl.InputError, match="reads text alone"):
        seen(sibling, out="other")
    with pytest.raises(sl.InputError, match="no image token"):
        seen(sibling, words, tokens="image", out="third")
