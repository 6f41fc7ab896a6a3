"""The command line, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.runs import data, deep, idle, loaded_once, picture, tiny

__all__ = ["data", "deep", "idle", "loaded_once", "picture", "tiny"]


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
