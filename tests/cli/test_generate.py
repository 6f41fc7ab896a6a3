"""sightline generate and list."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightline.jobs.sources import single_data


def test_generate(sightline: Callable[..., Any], tiny: Path, picture: Path, idle: str) -> None:
    words = ("generate", tiny, "--image", picture, "--prompt", "What do you see?", "--new-tokens", 4)
    document = sightline(*words, "--json").document
    assert document["model"] == str(tiny)
    assert document["method"] == "none"
    assert all(isinstance(token, int) for token in document["tokens"])
    assert 1 <= len(document["tokens"]) <= 4
    assert sightline(*words).out.strip() == document["text"]
    mended = sightline(*words, "--json", "--method", idle).document
    assert mended == document | {"method": idle}


def test_a_picture_may_be_a_data_uri_and_no_other_address(
    sightline: Callable[..., Any], tiny: Path, picture: Path, tmp_path: Path
) -> None:
    uri = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    ask = ("--prompt", "What do you see?", "--new-tokens", 2)
    own, written = (sightline("generate", tiny, "--image", given, *ask).out for given in (picture, uri))
    assert own == written
    settings = single_data([uri], "What?").settings
    assert settings["images"] == ["data:image/png"]
    assert settings["images_sha256"] == [hashlib.sha256(uri.encode()).hexdigest()]
    for address in ("https://example.org/a.png", "file:///etc/passwd"):
        sentence = sightline("generate", tiny, "--image", address, *ask).sentence
        assert f"The image {address} is an address, and nothing is fetched" in sentence
    config = tmp_path / "prompts.yaml"
    config.write_text(json.dumps({"prompts": [{"prompt": "What?", "images": [uri, address]}]}))
    sentence = sightline("impact", tiny, "--config", config, "--out", tmp_path / "impact").sentence
    assert "is an address, and nothing is fetched" in sentence


def test_several_methods_and_names_that_are_none(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    words = ("generate", tiny, "--image", picture, "--prompt", "What?", "--method")
    assert "takes one --method and is given 2, pai and vaf" in sightline(*words, "pai", "--method", "vaf").sentence
    measured = ("measure", tiny, "--image", picture, "--prompt", "What?", "--method", "spin", "--method", "fastv")
    assert "measure takes one --method and is given 2, spin and fastv: give one" in sightline(*measured).sentence
    assert "'PAI' (did you mean pai?)" in sightline(*words, "PAI").sentence
    for spec in ("pai:alpha=nan", "vaf:enhance=inf", "var:dims=3,tau=-inf"):
        assert "it takes a number" in sightline(*words, spec).sentence


def test_list(sightline: Callable[..., Any], idle: str) -> None:
    methods = sightline("list", "methods", "--json").document["methods"]
    (found,) = (method for method in methods if method["name"] == "nothing")
    assert found["about"] == "Changes nothing."
    assert found["fields"] == [{"name": "strength", "default": 0.5, "help": "how little"}]
    assert "strength=0.5  how little" in sightline("list", "methods").out
    assert isinstance(sightline("list", "models", "--json").document["models"], list)
    assert "shapes" in [bench["name"] for bench in sightline("list", "benches", "--json").document["benches"]]


def test_settings_of_the_model_are_options(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    words = ("generate", tiny, "--image", picture, "--prompt", "What do you see?", "--new-tokens", 4)
    assert sightline(*words, "--json").document["generation"] == {"decoding": "greedy"}
    changed = sightline(*words, "--json", "--generation", "repetition_penalty=9", "--attention", "eager").document
    assert changed["generation"] == {"decoding": "greedy", "repetition_penalty": 9}
    for options, reason in (
        (("--generation", "repetition"), "no FIELD=VALUE pair: write for example --generation repetition_penalty=1"),
        (("--generation", "top=1"), "no field top"),
        (("--chat", "enable_thinking=false"), "chat template of the model has no field enable_thinking"),
        (("--max-pixels", "100"), "no bound on pixels"),
        (("--processor", "do_resiz=true"), "did you mean do_resize"),
        (("--device-map", "auto", "--device", "cpu"), "give one of them"),
    ):
        assert reason in sightline(*words, *options).sentence
