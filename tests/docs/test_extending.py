"""What docs/extending.md shows works as it stands there: a package with a method, a benchmark and a command."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sightline as sl
from docs.pages import ROOT
from sightline.benchmarks.base import BENCHMARKS
from sightline.cli.main import cli
from sightline.methods.base import METHODS

PLUGIN = ROOT / "examples" / "plugin"
SOURCE = PLUGIN / "src" / "sightline_example"


def test_the_page_shows_the_files_of_the_example() -> None:
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r'```(?:python|toml) title="([^"]*)"\n(.*?)```', text, re.DOTALL))
    assert len(shown) == 7
    for title, code in shown.items():
        assert code == (PLUGIN / title).read_text(encoding="utf-8")


def test_the_example_asks_for_this_distribution_and_not_for_one_of_the_import_s_name() -> None:
    ours = re.search(r'^name = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = re.search(r"^dependencies = (.*)$", (PLUGIN / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert ours is not None
    assert wanted is not None
    assert json.loads(wanted[1]) == [ours[1]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example was built for and installed into, without a network."""
    folder = tmp_path_factory.mktemp("plugin")
    source, target = folder / "source", folder / "target"
    for path in PLUGIN.rglob("*"):
        if path.is_file() and "egg-info" not in str(path) and "__pycache__" not in str(path):
            copy = source / path.relative_to(PLUGIN)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    install = ["-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run(
        [sys.executable, *install, "--disable-pip-version-check", "--target", str(target), str(source)],
        check=True,
        capture_output=True,
        text=True,
    )
    return target


def start(path: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Runs Python in a folder, with another on the path."""
    before = [entry for entry in sys.path if entry]
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *before])},
        capture_output=True,
        text=True,
    )


def test_an_installed_package_adds_a_method_a_benchmark_and_a_command(
    installed: Path, picture: Path, tmp_path: Path
) -> None:
    assert start(installed, tmp_path, "-m", "sightline", "hello", "world").stdout == "Hello, world.\n"
    assert re.search(r"hello +Greets NAME", start(installed, tmp_path, "-m", "sightline", "--help").stdout)
    lines = [{"id": n, "image": picture.name, "question": "What color is the circle?", "answer": "red"} for n in (1, 2)]
    (tmp_path / "colours.jsonl").write_text("\n".join([*map(json.dumps, lines), "{"]), encoding="utf-8")
    eval_words = ["eval", "tiny-llava", "--bench", "colours:colours.jsonl", "--method", "none"]
    eval_words += ["--method", "image_focus:boost=0.5", "--json"]
    code = f"""
from click.testing import CliRunner
from sightline.cli.main import cli
for words in (["list", "methods", "--json"], {eval_words!r}):
    ended = CliRunner().invoke(cli, words)
    assert ended.exit_code == 0, ended.stderr
    print(ended.stdout.replace("\\n", " "))
"""
    ended = start(installed, tmp_path, "-c", code)
    assert ended.returncode == 0, ended.stderr
    methods, asked = map(json.loads, ended.stdout.splitlines())
    listed = {entry["name"]: entry for entry in methods["methods"]}
    assert [field["name"] for field in listed["image_focus"]["fields"]] == ["boost"]
    assert {"grey_contrast", "late_mean", "longest"} <= set(listed)
    assert (asked["methods"]["none"]["n"], asked["methods"]["none"]["failed"]) == (2, 1)
    assert asked["methods"]["image_focus:boost=0.5"]["n"] == 2


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder at hand, with the method and the benchmark as files in no package."""
    names = ("image_focus", "colours")
    for name in names:
        (tmp_path / f"{name}.py").write_text((SOURCE / f"{name}.py").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    METHODS.forget("image_focus")
    BENCHMARKS.forget("colours")
    for name in names:
        sys.modules.pop(name, None)


def test_a_method_of_each_base_changes_what_a_model_says_and_leaves_it_as_it_was(picture: Path) -> None:
    vlm = sl.load("tiny-llava-early")
    inputs = vlm.encode(sl.Sample("What do you see?", images=(picture,)))

    def likelihood(spec: str) -> list[float]:
        with nullcontext() if spec == "none" else sl.find_method(spec).on(vlm):  # type: ignore[union-attr]
            tokens = vlm.model.generate(
                **inputs, max_new_tokens=2, do_sample=False, output_scores=True, return_dict_in_generate=True
            )
        return [float(score.log_softmax(-1)[0].max()) for score in tokens.scores]

    sys.path.insert(0, str(SOURCE.parent))
    try:
        for name in ("image_focus", "grey_contrast", "late_mean", "longest"):
            importlib.import_module(f"sightline_example.{name}")
        plain = likelihood("none")
        changed = {spec: likelihood(spec) for spec in ("image_focus", "grey_contrast", "late_mean", "longest:keep=9")}
        assert all(found != plain for found in changed.values()), changed
        for idle in ("image_focus:boost=0", "grey_contrast:weight=0", "late_mean:share=0", "longest:keep=36"):
            assert likelihood(idle) == pytest.approx(plain, abs=1e-5), idle
        assert likelihood("none") == plain
    finally:
        sys.path.remove(str(SOURCE.parent))
        for name in ("image_focus", "grey_contrast", "late_mean", "longest"):
            METHODS.forget(name)
            sys.modules.pop(f"sightline_example.{name}", None)
        sys.modules.pop("sightline_example", None)


def document(*words: object) -> Any:
    ended = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert ended.exit_code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_module_in_the_folder_at_hand_is_a_plugin(picture: Path, beside: Path) -> None:
    asked = ("generate", "tiny-llava", "--image", picture, "--prompt", "What do you see?", "--new-tokens", 4)
    plain = document(*asked)
    found = document(*asked, "--plugin", "image_focus", "--method", "image_focus:boost=20")
    assert found["method"] == "image_focus:boost=20.0"
    assert found["tokens"] != plain["tokens"]
    assert document(*asked)["tokens"] == plain["tokens"], "nothing stays on the model"
    refused = CliRunner().invoke(cli, [*map(str, asked), "--plugin", "image_fogus"])
    assert refused.exit_code == 2
    assert refused.stderr == (
        "Error: The plugin image_fogus can't be imported: ModuleNotFoundError: No module named 'image_fogus'\n"
    )


def test_a_benchmark_of_another_package_is_scored(picture: Path, beside: Path) -> None:
    line = {"image": picture.name, "question": "What color is the circle?", "answer": "red"}
    data, answers = beside / "data.jsonl", beside / "answers.jsonl"
    data.write_text("\n".join(json.dumps({"id": n, **line}) for n in (1, 2)), encoding="utf-8")
    answers.write_text('{"id": "1", "response": "Red."}\n{"id": "2", "response": "who knows"}')
    scored = document("score", "colours", "--plugin", "colours", "--answers", answers, "--data", data)
    assert (scored["accuracy"], scored["unparsed"]) == (0.5, 1)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A red circle."""
    from sightline.zoo.render import render
    from sightline.zoo.world import Kind, Scene, SceneObject

    path = tmp_path / "scene.png"
    render(Scene((SceneObject(Kind("red", "circle"), 1, 1),)), 48).save(path)
    return path
