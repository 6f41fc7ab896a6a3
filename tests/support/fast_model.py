"""`sightline eval` on a model that answers at once, in processes of its own that can be killed."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

import sightline.jobs.models as models
import toy_bench
from sightline.cli.main import cli


class FastModel:
    """Stands in for a VLM. Its answer is the question, or always `said`; after `most` of them it answers no more."""

    name, revision, anatomy = "fast", None, SimpleNamespace(hidden_size=8, text_config=None)

    def __init__(self, seconds: float = 0.0, said: str | None = None, most: int | None = None) -> None:
        self.seconds, self.left = seconds, most
        self.tokenizer = SimpleNamespace(decode=lambda row, **_: f" answer to {row[0]} " if said is None else said)

    def prepare(self, samples: Any, **_: Any) -> dict[str, Any]:
        return {"input_ids": [sample.prompt for sample in samples]}

    def encode(self, samples: Any, **options: Any) -> dict[str, Any]:
        ready: dict[str, Any] = samples if isinstance(samples, dict) else self.prepare(samples, **options)
        return ready

    def generate_tokens(self, inputs: dict[str, Any], **_: Any) -> list[list[str]]:
        if self.left is not None:
            self.left -= len(inputs["input_ids"])
            if self.left < 0:
                signal.pause()  # until it is killed
        time.sleep(self.seconds * len(inputs["input_ids"]))
        return [[prompt] for prompt in inputs["input_ids"]]


def start(
    words: list[str], rank: int = 0, world: int = 1, seconds: float = 0.002, most: int | None = None
) -> BaseProcess:
    """A process that runs the command line; of `world` that share a run. most: after so many answers it hangs."""
    process = get_context("fork").Process(target=_run, args=(words, rank, world, seconds, most))
    process.start()
    return process


def _run(words: list[str], rank: int, world: int, seconds: float, most: int | None) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world)}
    run(words, seconds, most)


def run(words: list[str], seconds: float, most: int | None = None) -> None:
    """The command line in this process, silent, with the fast model in the place of any other."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    models.load_model = lambda *_: FastModel(seconds, most=most)  # type: ignore[assignment]
    with toy_bench.registered():
        try:
            cli.main(words, standalone_mode=False)
        except SystemExit as end:
            os._exit(int(end.code or 0))
