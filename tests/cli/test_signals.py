"""A command that is ended from outside ends in order, as by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_run_says_how_to_go_on(tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    words = [sys.executable, "-m", "sightline", "measure", "tiny-llava", "--data", "shapes", "--limit", "5000"]
    process = subprocess.Popen([*words, "--out", out], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (out / "samples.jsonl").exists() or not (out / "samples.jsonl").stat().st_size:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    os.kill(process.pid, getattr(signal, name))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"--out {out}" in errors.splitlines()[-1]
