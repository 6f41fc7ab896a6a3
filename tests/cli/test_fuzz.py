"""Whatever is wrong with an input, it is one sentence, or the error of one sample: never a traceback, never a surprise.

Forty-nine bad inputs are tried each time, seven of each kind; `make fuzz`, or FUZZ=1000, tries as many as one likes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from support.bad_inputs import Bad, Good, bad_input, make_good
from support.loaded import BUNDLED, load_once

COUNT, FIRST = int(os.environ.get("FUZZ", "49")), int(os.environ.get("FUZZ_FROM", "0"))
PATIENCE = 60
"""Seconds after which a command counts as one that never ends."""

PROGRAMS = re.compile(
    r"\b(Type|Attribute|Key|Index|Assertion|Unbound\w*|Recursion|Name|NotImplemented|Panic)(Error|Exc)"
)
"""Errors that speak of the program and not of the input."""

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def good(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Good]:
    """What works, and a model that is loaded once, where nothing about it is spoiled."""
    with pytest.MonkeyPatch.context() as patch:
        load_once(patch, [*BUNDLED, str(tiny)])
        folder = tmp_path_factory.mktemp("good")
        patch.chdir(folder)
        yield make_good(run, tiny, folder)


class Ended:
    """How a command ended."""

    def __init__(self, words: tuple[Any, ...]) -> None:
        from sightline.cli.main import cli

        ended = CliRunner().invoke(cli, [str(word) for word in words])
        self.code, self.out, self.err, self.error = ended.exit_code, ended.stdout, ended.stderr, ended.exception


def run(*words: Any) -> Ended:
    """Runs the command line in this process; one that does not end fails."""

    def never(*_: Any) -> None:
        raise BaseException("the command does not end")

    before = signal.signal(signal.SIGALRM, never)
    signal.alarm(PATIENCE)
    try:
        return Ended(words)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fault(ended: Ended, bad: Bad) -> str | None:
    """What is wrong with how a command ended; None where it is as it should be."""
    if ended.error is not None and not isinstance(ended.error, SystemExit):
        return f"raised {type(ended.error).__name__}: {ended.error}"
    if "Traceback" in ended.err or "Error: unexpected" in ended.err:
        return f"surprised: {ended.err[-700:]}"
    if found := CONTROL.search(ended.out + ended.err):
        return f"sent {found.group()!r} to the terminal"
    recorded = _errors(bad.out)
    if spoke := next(filter(PROGRAMS.search, (ended.err, *recorded)), None):
        return f"speaks of the program: {spoke[-400:]}"
    if ended.code == 0 or (ended.code == 1 and recorded):
        return None
    lines = [line for line in ended.err.splitlines() if not line.startswith(("Note: ", "Usage: "))]
    if ended.code != 2 or not lines or not lines[-1].startswith("Error: ") or len(lines[-1]) > 510:
        return f"ended with {ended.code}: {ended.err[-500:]}"
    return None


def _errors(folder: Path | None) -> list[str]:
    """The errors of samples that a run recorded."""
    lines = [] if folder is None else [line for path in folder.glob("samples*.jsonl") for line in _lines(path)]
    return [str(line["error"]) for line in lines if isinstance(line, dict) and line.get("error")]


def _lines(path: Path) -> Iterator[Any]:
    for line in path.read_bytes().splitlines():
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            continue


def test_bad_inputs_end_in_a_sentence(good: Good, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[str] = []
    for number in range(FIRST, FIRST + COUNT):
        folder = tmp_path / str(number)
        bad = bad_input(number, good, folder)
        monkeypatch.chdir(folder)
        found = fault(run(*bad.words), bad)
        if found is not None:
            faults.append(f"{number} ({bad.kind}) {json.dumps(bad.words)[:600]}\n    {found}")
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder, ignore_errors=True)
    assert not faults, f"{len(faults)} of {COUNT}:\n" + "\n".join(faults)


def test_the_check_finds_what_must_not_be(tmp_path: Path) -> None:
    check: Callable[[int, str, str], str | None] = lambda code, out, err: fault(  # noqa: E731
        type("Made", (), {"code": code, "out": out, "err": err, "error": None})(), Bad("made", ())
    )
    assert check(2, "", "Error: The image a.png does not exist.\n") is None
    assert check(0, "", "") is None
    assert check(1, "", "Error: unexpected KeyError: 'x'\n") is not None
    assert check(1, "", "Error: something\n") is not None, "no sample is recorded"
    assert check(0, "\x1b[2J", "") is not None
    assert check(2, "", "Error: KeyError: 'x'\n") is not None
    assert check(2, "", "no sentence") is not None
