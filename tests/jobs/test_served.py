"""Models behind an address: a stand-in server that answers as tiny-llava, or with what is no answer."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sightline as sl
from sightline.errors import InputError, RunError
from sightline.integrations import served
from sightline.integrations.served import message_content, served_model
from sightline.jobs.blind import VIEWS


@pytest.mark.parametrize(
    "name",
    ["openai:", "openai:localhost#m", "openai:http://h/v1", "openai:http://h/v1#", "openai:ftp://h#m", "openai:#m"],
)
def test_an_address_that_is_none_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match="openai:URL#NAME is expected"):
        served_model(name)


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="OPENAI_API_KEY alone") as refused:
        served_model("openai:http://user:secret@h/v1#m")
    assert "secret" not in str(refused.value)


def test_words_and_images_in_their_order() -> None:
    red = Image.new("RGB", (40, 20), "red")
    parts = message_content(sl.Sample(prompt="One <image> two <image>?", images=(red, red)), side=10)
    assert [part["type"] for part in parts] == ["text", "image_url", "text", "image_url", "text"]
    data = parts[1]["image_url"]["url"].removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (10, 5)
    assert [part["type"] for part in message_content(sl.Sample(prompt="What?", images=(red,)))] == ["image_url", "text"]


def test_other_jobs_and_methods_refuse_it() -> None:
    name = "openai:http://localhost:1/v1#m"
    with pytest.raises(InputError, match="`eval` can ask it, and nothing else"):
        sl.measure(name, "shapes", limit=1)
    with pytest.raises(InputError, match="vcd changes a model in this process"):
        sl.evaluate(name, "shapes-pope", ["none", "vcd"], limit=2)


# Against a server ----------------------------------------------------------------------------------------------------


class StandIn(ThreadingHTTPServer):
    """Answers as `says` does; `faults` are sent first, one a request: a status, "garbage", "half" or "empty"."""

    daemon_threads = True

    def __init__(self, says: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.says, self.faults, self.keys, self.most, self._now = says, list[Any](), set[str](), 0, 0
        self.lock, self.retry_after, self.has_no_logprobs = threading.Lock(), "0", False
        self.times: list[float] = []

    def enter(self, change: int) -> None:
        with self.lock:
            self._now += change
            self.most = max(self.most, self._now)


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        self.server.enter(1)
        try:
            self.server.times.append(time.monotonic())
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.keys.add(self.headers["Authorization"])
            with self.server.lock:
                fault = self.server.faults.pop(0) if self.server.faults else None
                text = self.server.says(body) if fault in (None, "slow") else ""
            tokens = [{"token": word, "logprob": -0.5, "top_logprobs": []} for word in text.split()]
            message = {"role": "assistant", "content": text}
            answer: Any = {
                "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message,
                             "logprobs": {"content": tokens} if "logprobs" in body else None}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            }  # fmt: skip
            content = json.dumps({"choices": []} if fault == "empty" else answer).encode()
            if fault == "garbage":
                content = b"<html>no</html>"
            if isinstance(fault, int):
                content = b'{"error": {"message": "the image is too large"}}'
            if fault == "slow":
                time.sleep(0.3)
            if "logprobs" in body and self.server.has_no_logprobs:
                fault, content = 422, b'{"detail": "Unexpected fields in the request: logprobs"}'
            self.send_response(fault if isinstance(fault, int) else 200)
            if fault == 429:
                self.send_header("Retry-After", self.server.retry_after)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault == "half" else content)
        finally:
            self.server.enter(-1)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    pytest.importorskip("openai")
    vlm = sl.load("tiny-llava", dtype="float32")

    def says(body: dict[str, Any]) -> str:
        parts = body["messages"][0]["content"]
        assert (body["temperature"], body["seed"]) == (0.0, 0)
        images = tuple(
            base64.b64decode(part["image_url"]["url"].partition(",")[2])
            for part in parts
            if part["type"] == "image_url"
        )
        words = " ".join(part["text"] for part in parts if part["type"] == "text")
        inputs = vlm.encode(sl.Sample(prompt=words, images=images), allow_text_only=True)
        return str(vlm.generate(inputs, max_new_tokens=body["max_tokens"]))

    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-secret")
    monkeypatch.setattr(served, "PAUSE", 0.001)
    with StandIn(says) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def name_of(server: StandIn) -> str:
    return f"openai:http://127.0.0.1:{server.server_port}/v1#tiny"


def answers(found: Any, method: str = "none") -> dict[str, str]:
    return {record.id: record.result["response"] for run in found.runs for record in run.all_records()
            if record.result and record.method == method}  # fmt: skip


def test_its_answers_are_those_of_the_model_here(server: StandIn, tmp_path: Path) -> None:
    here = sl.evaluate("tiny-llava", "shapes-pope", ["none"], limit=12, dtype="float32")
    server.faults = [429, 500, 503, "half", "slow", 429]
    there = sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=12, batch_size=3, out=tmp_path / "run")
    assert answers(there) == answers(here)
    assert server.most <= 3
    logprobs = [record.result["logprobs"] for record in there.runs[0].all_records() if record.result]
    assert all(values and set(values) == {-0.5} for values in logprobs)
    assert server.keys == {"Bearer sk-test-secret"}
    assert not any("sk-test-secret" in file.read_text(errors="replace") for file in (tmp_path / "run").glob("*.json*"))
    again = sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=12, blind=True, out=tmp_path / "run")
    assert set(again.to_dict()["methods"]) == {"none", *VIEWS}


@pytest.mark.parametrize("fault", ["garbage", "empty", 400])
def test_what_is_no_answer_is_that_items_failure(server: StandIn, fault: Any) -> None:
    server.faults = [fault]
    found = sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=6, batch_size=1)
    (failed,) = found.failed
    assert failed.error is not None
    assert "answer" in failed.error
    assert len(answers(found)) == 5


def test_a_server_that_refuses_ends_the_run_and_is_nobodys_failure(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults = [401] * 20
    with pytest.raises(RunError, match="check OPENAI_API_KEY"):
        sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=6, out=tmp_path / "run")
    server.faults = []
    assert len(answers(sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=6, out=tmp_path / "run"))) == 6
    monkeypatch.setattr(served, "RETRIES", 0)
    nowhere = served.ServedModel("http://127.0.0.1:9/v1", "m", retries=0)
    (error,) = nowhere.answer_all(nowhere.client(), [sl.Sample(prompt="Hi")], 4)
    assert isinstance(error, RunError)
    assert "cannot be reached" in str(error)


def test_what_came_before_a_server_broke_off_is_kept(server: StandIn, tmp_path: Path) -> None:
    """One of three that are asked at once is refused: the other two are recorded, and not asked again."""
    server.faults = [401]
    with pytest.raises(RunError, match="check OPENAI_API_KEY"):
        sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=3, batch_size=3, out=tmp_path / "run")
    before = len(server.times)
    found = sl.evaluate(name_of(server), "shapes-pope", ["none"], limit=3, batch_size=3, out=tmp_path / "run")
    assert len(answers(found)) == 3
    assert len(server.times) - before == 1


def test_a_server_without_log_probabilities_is_asked_without(server: StandIn) -> None:
    server.has_no_logprobs = True
    model = served_model(name_of(server))
    client, sample = model.client(), sl.Sample(prompt="Hi")
    for asked in (2, 3):
        (answer,) = model.answer_all(client, [sample], 2, temperature=0.0, seed=0)
        assert isinstance(answer, dict)
        assert "logprobs" not in answer
        assert len(server.times) == asked


def test_all_wait_as_long_as_the_server_says(server: StandIn) -> None:
    server.faults, server.retry_after = [429], "0.3"
    model = served_model(name_of(server))
    client = model.client()
    (answer,) = model.answer_all(client, [sl.Sample(prompt="Hi")], 2, temperature=0.0, seed=0)
    assert isinstance(answer, dict)
    assert server.times[1] - server.times[0] >= 0.29
    model.patience.take(0.3, 0)  # as if another request had been refused
    model.answer_all(client, [sl.Sample(prompt="Hi")], 2, temperature=0.0, seed=0)
    assert server.times[2] - server.times[1] >= 0.25


def test_a_server_that_is_too_slow_ends_the_run(server: StandIn) -> None:
    server.faults = ["slow"] * 2
    model = served.ServedModel(f"http://127.0.0.1:{server.server_port}/v1", "tiny", seconds=0.1, retries=1)
    (error,) = model.answer_all(model.client(), [sl.Sample(prompt="Hi")], 2, temperature=0.0, seed=0)
    assert isinstance(error, RunError)
    assert "in 2 tries" in str(error)
