"""The command line on a random LLaVA of two layers, saved as a folder like any from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from sightline.methods.base import METHODS, Method, register, setting
from support.loaded import BUNDLED, load_once
from support.tiny_llava import save_tiny


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document it must be."""
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} in a JSON document"))

    @property
    def sentence(self) -> str:
        """The one line on standard error of a command that failed."""
        assert self.code != 0, self.out
        assert self.out == ""
        (line,) = self.err.strip().splitlines()
        assert line.startswith("Error: ")
        return line.removeprefix("Error: ")


@pytest.fixture
def sightline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs the command line in this process, in an empty folder."""
    from sightline.cli.main import cli

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Ended:
        result = CliRunner().invoke(cli, [str(word) for word in words])
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA with 2 decoder layers and 9 image tokens, random weights."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def loaded_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that commands name are loaded once for all tests."""
    own = [str(request.getfixturevalue("tiny"))] if "tiny" in request.fixturenames else []
    load_once(monkeypatch, [*BUNDLED, *own])


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
    path = picture.parent / "data.jsonl"
    lines = [
        {"id": f"s{number}", "image": name, "prompt": prompt, "answer": "yes"}
        for number, (name, prompt) in enumerate(zip(names, prompts, strict=True), start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


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
