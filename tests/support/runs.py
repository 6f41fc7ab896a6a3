"""What jobs and commands run on: a random LLaVA of two layers, a photograph, a file of samples, an idle method."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from sightline.methods.base import METHODS, Method, register, setting
from support.loaded import BUNDLED, load_once
from support.tiny_llava import save_tiny

__all__ = ["data", "deep", "idle", "loaded_once", "picture", "tiny"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA with 2 decoder layers and 9 image tokens, random weights, saved as a folder like any from the hub."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


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


@pytest.fixture(autouse=True)
def loaded_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that jobs and commands name are loaded once for all tests."""
    own = {"tiny", "deep"} & {*request.fixturenames}
    load_once(monkeypatch, [*BUNDLED, *(str(request.getfixturevalue(name)) for name in own)])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A photograph to ask about."""
    path = tmp_path / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def data(picture: Path) -> Path:
    """Four samples; the third names an image that is not there."""
    names = [picture.name, picture.name, "missing.png", picture.name]
    prompts = ["Is there a red circle?", "What do you see?", "Is there a blue square?", "How many?"]
    return write_lines(
        picture.parent / "data.jsonl",
        [
            {"id": f"s{number}", "image": name, "prompt": prompt, "answer": "yes"}
            for number, (name, prompt) in enumerate(zip(names, prompts, strict=True), start=1)
        ],
    )


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, or of a run folder's one process."""
    file = path / "samples.jsonl" if path.is_dir() else path
    return [json.loads(line) for line in file.read_text().splitlines()]


@dataclass(frozen=True)
class Nothing(Method):
    """Changes nothing."""

    name: ClassVar[str] = "nothing"
    strength: float = setting(0.5, "how little")

    @contextmanager
    def on(self, model: Any, layout: Any = None) -> Iterator[None]:
        yield


@pytest.fixture
def idle() -> Iterator[str]:
    """A method that does nothing, registered for the length of a test; yields its spec."""
    register(Nothing)
    yield "nothing:strength=0.25"
    METHODS.forget("nothing")
