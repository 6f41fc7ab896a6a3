"""A real server on loopback: `transformers serve` with tiny-llava answers as the model does in this process."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import sightline as sl
from sightline import zoo
from sightline.jobs.blind import VIEWS

pytest.importorskip("openai")
pytest.importorskip("fastapi")  # with uvicorn and pydantic what `transformers serve` needs
serve = pytest.importorskip("transformers.cli.serve")


@pytest.fixture
def address() -> Iterator[str]:
    folder = Path(zoo.__file__).parent / "checkpoints" / "tiny-llava"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = serve.Serve(
        str(folder), device="cpu", dtype="float32", host="127.0.0.1", port=port, log_level="error", non_blocking=True
    )
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.05)
        yield f"openai:http://127.0.0.1:{port}/v1#{folder}"
    finally:
        server.kill_server()


def test_its_answers_are_those_of_the_model_here(address: str, tmp_path: Path) -> None:
    said = []
    for model, size in ((address, 4), ("tiny-llava", 4)):
        dtype = "auto" if model == address else "float32"
        found = sl.evaluate(model, "shapes-mme", limit=12, blind=True, batch_size=size, dtype=dtype)
        records = found.runs[0].all_records()
        said.append({(each.method, each.id): (each.result or {}).get("response") for each in records})
        document = found.to_dict()
        assert set(document["methods"]) == {"none", *VIEWS}
    assert said[0] == said[1]
    assert all(said[0].values())
