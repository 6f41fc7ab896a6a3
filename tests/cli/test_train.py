"""sightline train and train-data on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

QUICK = ("--steps", 2, "--batch-size", 2, "--set", "log_steps=1", "--set", "save_steps=1", "--limit", 8)


def test_a_training_ends_with_a_model_and_its_figures(sightline: Any) -> None:
    ended = sightline(
        "train", "tiny-llava-early", "--data", "shapes", *QUICK, "--out", "t", "--seed", 4, "--json",
        "--set", "eval_limit=3", "--set", "eval_benches=[shapes-chair]",
    )  # fmt: skip
    document = ended.document
    assert (document["steps"], document["samples"], document["folder"]) == (2, 8, "t")
    assert document["settings"]["seed"] == 4
    assert set(document["losses"]) >= {"loss", "language", "ground"}
    assert [one["step"] for one in document["evaluation"]["all"]] == [0, 2]
    assert 0 <= document["evaluation"]["after"]["shapes-chair.recall"] <= 1
    drawn = sightline("train-data", "negatives", "--data", "shapes", "--limit", 3, "--out", "n.jsonl", "--json")
    assert drawn.document["samples"] == 3
    image = Path("images") / "1-0.png"
    said = sightline("generate", "t", "--image", image, "--prompt", "Describe the image.", "--new-tokens", 3, "--json")
    assert said.document["tokens"]
    measured = sightline(
        "measure", "t", "--image", image, "--prompt", "Describe the image.", "--new-tokens", 2, "--json"
    )
    assert len(measured.document["layers"]) == 8
    again = sightline("train", "tiny-llava-early", "--data", "shapes", *QUICK, "--out", "t")
    assert "holds a training already" in again.sentence
    other = sightline("train", "tiny-llava-early", "--data", "shapes", *QUICK, "--out", "t", "--resume", "--seed", 5)
    assert "had seed 4 and not 5" in other.sentence


def test_a_file_of_samples_bad_lines_told(sightline: Any, data: Path, tiny: Path) -> None:
    ended = sightline(
        "train", tiny, "--data", data, *QUICK, "--no-eval", "--out", "t", "--set", "layers=all", "--seed", 1
    )
    assert ended.code == 0, ended.err
    assert "missing.png does not exist" in ended.err
    assert "1 entries are passed over; 3 samples are trained on" in ended.err
    assert "No sample has a negative caption" in ended.err
    assert "the trained model" in ended.out
    assert json.loads((Path("t") / "training.json").read_text())["about"]["data_sha256"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", "gone.jsonl"), "does not exist"),
        (("--data", "shapes", "--preset", "gone"), "no preset 'gone'"),
        (("--data", "shapes", "--set", "lerning_rate=1"), "did you mean learning_rate"),
        (("--data", "shapes", "--set", "steps"), "no FIELD=VALUE pair"),
        (("--data", "shapes", "--set", "a=["), "cannot be read"),
        (("--data", "shapes", "--lora", "--qlora"), "not both"),
        (("--data", "shapes", "--resume"), "give --out"),
        (("--data", "shapes", "--prompt", " "), "prompt is empty"),
        (("--data", "shapes", "--config", "gone.yaml"), "cannot be read"),
        (("--data", "shapes", "--limit", "4", "--set", "layers=99", "--no-eval"), "Layer 99 is out of range"),
        (("--data", "shapes", "--limit", "4", "--set", "eval_benches=[gone]"), "no benchmark named 'gone'"),
        (("--data", "shapes", "--limit", "4", "--qlora", "--no-eval"), "quantize='4bit'"),
        (("--data", "shapes", "--limit", "4", "--out", "full", "--no-eval"), "holds something else"),
        (("--data", "empty.jsonl"), "hold no sample"),
        (("--data", "shapes", "--images", "full"), "alone takes --images"),
        (("--data", "shapes", "--learning-rate", "inf"), "learning_rate is inf"),
        (("--data", "shapes", "--set", "steps=.inf"), "steps is inf"),
    ],
)
def test_wrong_usage_is_one_sentence(sightline: Any, words: tuple[str, ...], said: str) -> None:
    Path("full").mkdir()
    (Path("full") / "file").touch()
    Path("empty.jsonl").touch()
    ended = sightline("train", "tiny-llava-early", *words)
    assert ended.code == 2
    assert said in ended.sentence


def test_negatives_on_the_command_line(sightline: Any) -> None:
    words = ("train-data", "negatives", "--data", "shapes", "--limit", 8, "--seed", 3)
    ended = sightline(*words, "--out", "a/one.jsonl", "--ratio", 0.25, "--kinds", "object")
    assert ended.code == 0, ended.err
    assert "8 samples, 2 with a false caption" in ended.out
    assert sightline(*words, "--out", "b/two.jsonl", "--ratio", 0.25, "--kinds", "object").code == 0
    assert Path("a/one.jsonl").read_bytes() == Path("b/two.jsonl").read_bytes()
    assert "give --force" in sightline(*words, "--out", "a/one.jsonl").sentence
    assert sightline(*words, "--out", "a/one.jsonl", "--force").code == 0
    before = Path("a/one.jsonl").read_bytes()
    onto = sightline(
        "train-data", "negatives", "--data", "a/one.jsonl", "--limit", 1, "--out", "a/one.jsonl", "--force"
    )
    assert "is what is read" in onto.sentence
    assert Path("a/one.jsonl").read_bytes() == before
    assert "cannot be written" in sightline(*words, "--out", "a/one.jsonl/two.jsonl").sentence
    assert "The ratio is 3" in sightline(*words, "--out", "c.jsonl", "--ratio", 3).sentence
    assert "no kind of negative verb" in sightline(*words, "--out", "c.jsonl", "--kinds", "verb").sentence
    assert not Path("c.jsonl").exists()
