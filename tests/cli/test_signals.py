"""A command that is ended from outside ends in order, as by Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest


def _measure(words: list[str], errors: Path) -> None:
    from sightline.cli.main import run

    sys.argv = ["sightline", *words]
    with errors.open("w", encoding="utf-8") as sys.stderr, Path(os.devnull).open("w") as sys.stdout:
        run()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_run_says_how_to_go_on(tiny: Path, tmp_path: Path, name: str) -> None:
    out, errors = tmp_path / "run", tmp_path / "errors"
    words = ["measure", str(tiny), "--data", "shapes", "--limit", "500", "--out", str(out)]
    process = get_context("fork").Process(target=_measure, args=(words, errors))
    process.start()
    while not (out / "samples.jsonl").exists() or not (out / "samples.jsonl").stat().st_size:
        assert process.is_alive(), errors.read_text()
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, getattr(signal, name))
    process.join(120)
    assert process.exitcode == 1
    assert f"--out {out}" in errors.read_text().splitlines()[-1]
