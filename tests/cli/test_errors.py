"""Every wrong input ends in one sentence and exit code 2, anything else in one sentence and 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.cli.main import COMMANDS

ASK = ("--prompt", "What do you see?")


def wrong(sightline: Callable[..., Any], *words: object) -> str:
    ended = sightline(*words)
    assert ended.code == 2, ended
    return str(ended.sentence)


@pytest.mark.parametrize("command", ["measure", "generate"])
def test_images(sightline: Callable[..., Any], tiny: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "zero.png").touch()
    (tmp_path / "words.png").write_text("no picture")
    for name, reason in {
        "missing.png": "does not exist",
        "zero.png": "zero bytes",
        "words.png": "not an image",
    }.items():
        sentence = wrong(sightline, command, tiny, "--image", tmp_path / name, *ASK)
        assert name in sentence
        assert reason in sentence


@pytest.mark.parametrize("option", ["--image", "--sinks", "--layout"])
def test_a_nul_byte_in_a_file_name(sightline: Callable[..., Any], tiny: Path, option: str) -> None:
    assert "NUL byte" in wrong(sightline, "generate", tiny, *ASK, option, "a\0b")


@pytest.mark.parametrize("size", [(1, 1), (9_000, 9_000)])
def test_images_of_every_size_work(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("1", size).save(tmp_path / "image.png")
    words = (tiny, "--image", tmp_path / "image.png", *ASK, "--new-tokens", 2, "--json")
    assert sightline("measure", *words).document["tokens"]["image"] == 9.0


@pytest.mark.parametrize("command", ["measure", "generate"])
def test_prompts(sightline: Callable[..., Any], tiny: Path, picture: Path, command: str) -> None:
    assert "prompt is empty" in wrong(sightline, command, tiny, "--image", picture, "--prompt", " ")
    assert "no prompt" in wrong(sightline, command, tiny, "--image", picture)
    assert "without an image" in wrong(sightline, command, tiny, *ASK)


def test_data(sightline: Callable[..., Any], tiny: Path, picture: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "a", "prompt": "p"}\n{"id": "b", "prompt"\n')
    assert "line 2" in wrong(sightline, "measure", tiny, "--data", broken)
    assert "does not exist" in wrong(sightline, "measure", tiny, "--data", tmp_path / "none.jsonl")
    assert "neither a file nor `shapes`" in wrong(sightline, "measure", tiny, "--data", "shape")
    assert "is a folder" in wrong(sightline, "measure", tiny, "--data", tmp_path)
    assert "not both" in wrong(sightline, "measure", tiny, "--data", broken, "--image", picture, *ASK)
    assert "nothing to measure" in wrong(sightline, "measure", tiny)
    (tmp_path / "lost.jsonl").write_text('{"id": "a", "prompt": "p", "image": "lost.png"}\n')
    assert "lost.png does not exist" in wrong(sightline, "measure", tiny, "--data", tmp_path / "lost.jsonl")


def test_options(sightline: Callable[..., Any], tiny: Path) -> None:
    shapes = ("measure", tiny, "--data", "shapes")
    assert "--limit" in wrong(sightline, *shapes, "--limit", 0)
    assert "'generated', 'prompt', 'all'" in wrong(sightline, *shapes, "--queries", "answers")
    assert "no method named 'magic'" in wrong(sightline, *shapes, "--method", "magic")
    assert "llava-1.5-7b" in wrong(sightline, *shapes, "--published", "nothing")
    assert "is no device" in wrong(sightline, *shapes, "--device", "toaster")
    assert "named twice" in wrong(sightline, "measure", tiny, tiny, "--data", "shapes")
    assert "layout file" in wrong(sightline, *shapes, "--layout", "none.json")
    assert "MODEL" in wrong(sightline, "measure")
    assert "bitsandbytes" in wrong(sightline, *shapes, "--quantize", "4bit") or "GPU" in wrong(
        sightline, *shapes, "--quantize", "4bit"
    )
    assert "No such command" in wrong(sightline, "measur")
    assert "No such option" in wrong(sightline, *shapes, "--speed", 3)


def test_models(sightline: Callable[..., Any], tiny: Path, picture: Path, tmp_path: Path) -> None:
    ask = ("--image", picture, *ASK)
    assert "hub cannot be reached" in wrong(sightline, "generate", "someone/no-such-model", *ask)
    for misspelt in ("tiny-lava", "tiny_llava", "TinyLLaVA"):
        assert "did you mean tiny-llava?" in wrong(sightline, "measure", misspelt, *ask)
    assert "does not exist" in wrong(sightline, "generate", "./nowhere", *ask)
    assert "config.json" in wrong(sightline, "measure", tmp_path, *ask)
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    assert "vision-language model" in wrong(sightline, "measure", bert, *ask)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((tiny / name).read_bytes())
    assert "no processor" in wrong(sightline, "measure", bare, *ask)


def test_a_gated_model(sightline: Callable[..., Any], picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    class GatedRepoError(OSError):
        pass

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("You are trying to access a gated repo.") from GatedRepoError()

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    assert "gated" in wrong(sightline, "measure", "owner/gated", "--image", picture, *ASK)


def test_run_folders(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = ("measure", tiny, "--data", "shapes", "--limit", 1)
    (tmp_path / "file").touch()
    assert "is a file" in wrong(sightline, *shapes, "--out", tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert "cannot be written" in wrong(sightline, *shapes, "--out", tmp_path / "run")


def test_the_unexpected(sightline: Callable[..., Any], tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("sightline.jobs.models.load_model", broken)
    words = ("measure", tiny, "--data", "shapes", "--limit", 1)
    ended = sightline(*words)
    assert ended.code == 1
    assert "unexpected RuntimeError: two lines" in ended.sentence
    assert "--debug" in ended.sentence
    shown = sightline(*words, "--debug")
    assert shown.code == 1
    assert "Traceback" in shown.err
    monkeypatch.setenv("SIGHTLINE_DEBUG", "1")
    assert "Traceback" in sightline(*words).err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_the_common_options(sightline: Callable[..., Any], command: str) -> None:
    words = ("train-data", "negatives") if command == "train-data" else (command,)  # a group, and what stands in it
    ended = sightline(*words, "--help")
    assert ended.code == 0
    assert f"sightline {' '.join(words)}" in ended.out
    runs_no_model = command == "report"
    for option in ("--json",) if runs_no_model else ("--json", "--seed", "--device", "--dtype"):
        assert option in ended.out


def test_help_and_import_load_no_model_library() -> None:
    script = (
        "import sys, sightline, sightline.cli.main as main\n"
        "try: main.cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "measure" in ended.stdout


def test_the_module_is_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "sightline", "list", "tables"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("Error: Invalid value")
    assert len(ended.stderr.splitlines()) == 1


def test_exports_are_lazy_and_whole() -> None:
    import sightline

    assert {getattr(sightline, name) is not None for name in sightline.__all__} == {True}
    assert set(sightline.__all__) <= set(dir(sightline))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        sightline.nothing  # noqa: B018
