"""What docs/extending.md tells to write works as it stands there: a method and a benchmark, each in one file."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sightline.benchmarks
import sightline.methods
from docs.pages import ROOT
from sightline.benchmarks import base as benchmark
from sightline.cli.main import cli
from sightline.methods.base import METHODS


def code_of(title: str) -> str:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.search(rf'```python title="src/sightline/{title}"\n(.*?)```', text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def add(tmp_path: Path) -> Iterator[Callable[[Any, str], None]]:
    """Puts a file of the page beside the modules of a package, for the length of a test."""
    packages: list[Any] = []
    known = set(sys.modules)

    def put(package: Any, name: str) -> None:
        folder = tmp_path / "package"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(code_of(f"{package.__name__.split('.')[-1]}/{name}.py"), encoding="utf-8")
        package.__path__.append(str(folder))
        importlib.import_module(f"{package.__name__}.{name}")
        packages.append(package)

    yield put
    for package in packages:
        package.__path__.remove(str(tmp_path / "package"))
    METHODS.pop("brighter", None)
    benchmark._BENCHES.pop("colours", None)
    for name in set(sys.modules) - known:
        if name.endswith((".brighter", ".colours")):
            del sys.modules[name]


def said(*words: object) -> Any:
    ended = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_method_in_one_file_is_known_and_generates(add: Callable[[Any, str], None], picture: Path) -> None:
    add(sightline.methods, "brighter")
    listed = {entry["name"]: entry for entry in said("list", "methods")["methods"]}
    assert [field["name"] for field in listed["brighter"]["fields"]] == ["gain"]
    asked = ("generate", "tiny-llava", "--image", picture, "--prompt", "What do you see?", "--new-tokens", 4)
    plain = said(*asked)
    assert said(*asked, "--method", "brighter:gain=1")["tokens"] == plain["tokens"]
    assert said(*asked, "--method", "brighter:gain=1.5")["method"] == "brighter:gain=1.5"
    assert said(*asked, "--method", "brighter:gain=1e-6")["tokens"] != plain["tokens"]
    assert said(*asked)["tokens"] == plain["tokens"], "nothing stays on the model"


def test_every_file_of_methods_is_loaded_without_being_named() -> None:
    for package in (sightline.methods, sightline.benchmarks):
        benchmark.benches()
        names = {f"{package.__name__}.{module.name}" for module in pkgutil.iter_modules(package.__path__)}
        assert names <= {*sys.modules}


def test_a_benchmark_in_one_file_is_known_asked_and_scored(
    add: Callable[[Any, str], None], picture: Path, tmp_path: Path
) -> None:
    add(sightline.benchmarks, "colours")
    lines = [{"id": n, "image": picture.name, "question": "What color is the circle?", "answer": "red"} for n in (1, 2)]
    data = tmp_path / "colours.jsonl"
    data.write_text("\n".join([*map(json.dumps, lines), "{"]), encoding="utf-8")
    assert "colours" in [entry["name"] for entry in said("list", "benches")["benches"]]
    asked = said("eval", "tiny-llava", "--bench", f"colours:{data}", "--method", "none", "--out", tmp_path / "run")
    assert (asked["methods"]["none"]["n"], asked["methods"]["none"]["failed"]) == (2, 1)
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"id": "1", "response": "Red."}\n{"id": "2", "response": "who knows"}')
    scored = said("score", "colours", "--answers", answers, "--data", data)
    assert (scored["accuracy"], scored["unparsed"]) == (0.5, 1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A red circle."""
    from sightline.zoo.render import render
    from sightline.zoo.world import Item, Kind, Scene

    path = tmp_path / "scene.png"
    render(Scene((Item(Kind("red", "circle"), 1, 1),)), 48).save(path)
    return path
