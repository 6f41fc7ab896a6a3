"""The live page's server: what it answers, and that one bad request harms nobody."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import socket
import threading
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from sightline.cli.app import command
from sightline.errors import InputError
from sightline.live.engine import Engine
from sightline.live.server import WaitingLine, build
from sightline.live.serving import bind
from sightline.models.vlm import load
from support.browsing import address, serve

__all__ = ["address"]  # a fixture


def picture(side: int = 64) -> str:
    drawn = Image.new("RGB", (side, side), (235, 235, 235))
    ImageDraw.Draw(drawn).ellipse((side // 8, side // 8, side // 2, side // 2), fill=(220, 30, 30))
    file = io.BytesIO()
    drawn.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def post(address: str, body: Any) -> Any:
    """Of nothing: what a GET gives."""
    if body is None:
        return urlopen(address, timeout=120)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return urlopen(Request(address, data, method="POST"), timeout=120)


def asked(address: str, **body: Any) -> list[dict[str, Any]]:
    question = {"prompt": "What is in the picture?", "images": [picture()], "new_tokens": 6, **body}
    return [json.loads(line) for line in post(address + "ask", question)]


@pytest.fixture(scope="module")
def answer(address: str) -> dict[str, Any]:
    return asked(address)[-1]["answer"]


def test_an_answer_streams_and_carries_its_maps(address: str) -> None:
    events = asked(address)
    answer = events[-1]["answer"]
    assert "".join(event.get("text", "") for event in events) == answer["text"]
    assert len(answer["words"]) == len(answer["maps"]["words"])
    assert all(0 <= word["probability"] <= 1 and len(word["runners"]) == 5 for word in answer["words"])
    positions = [position for column in answer["columns"] for position in column]
    assert sorted(positions) == list(range(len(positions)))


def test_cutting_nothing_changes_nothing_and_cutting_the_picture_costs(address: str, answer: dict[str, Any]) -> None:
    cut = f"{address}answers/{answer['name']}/cut"
    assert abs(json.load(post(cut, {}))["total"]) < 1e-3
    patches = [position for column in answer["columns"][len(answer["maps"]["prompt"]) :] for position in column]
    assert len(patches) == 36
    assert json.load(post(cut, {"positions": patches}))["total"] < -1
    every = [[layer, head] for layer in range(8) for head in range(4)]
    assert json.load(post(cut, {"heads": every}))["total"] < -1


def test_the_lens_of_a_patch_names_words_by_layer_and_ends_in_the_models_own(
    address: str, answer: dict[str, Any]
) -> None:
    last = sum(len(column) for column in answer["columns"]) - 1
    found = json.load(urlopen(f"{address}answers/{answer['name']}/lens/{last}"))["layers"]
    assert [layer["layer"] for layer in found] == list(range(9))
    assert found[-1]["tokens"][0][0].strip() == answer["maps"]["words"][0][0].strip()


def test_a_second_turn_reads_the_first(address: str, answer: dict[str, Any]) -> None:
    turns = [["Is there a red circle in the image?", "yes"]]
    later = asked(address, turns=turns, prompt="And a blue square?")[-1]["answer"]
    words = [word for word, _ in later["maps"]["prompt"]]
    assert {"circle", "yes", "square"} <= {word.strip() for word in words}


def test_methods_and_views_change_the_answer_alone(address: str, answer: dict[str, Any]) -> None:
    names = {method["name"] for method in json.load(urlopen(address + "methods"))}
    assert {"vcd", "pai"} <= names
    blind = asked(address, view="without")[-1]["answer"]
    assert blind["images"] == []
    assert blind["maps"]["grids"] == []
    blank = asked(address, view="blank", method="vaf")[-1]["answer"]
    assert blank["method"] == "vaf"
    assert asked(address)[-1]["answer"]["text"] == answer["text"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"prompt": " "}, "The question is empty"),
        ({"images": ["data:image/png;base64,AAAA"]}, "cannot be read"),
        ({"method": "vdc"}, "There is no method named 'vdc' (did you mean vcd?)"),
        ({"view": "upside down"}, "There is no view 'upside down'"),
        ({"view": "another"}, "There is no other picture yet"),
    ],
)
def test_a_wrong_question_is_one_sentence(address: str, body: dict[str, Any], sentence: str) -> None:
    assert sentence in asked(address, **body)[-1]["error"]


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("ask", b"{", "is no JSON"),
        ("ask", [1], "is no JSON object"),
        ("ask", {"prompt": 3}, "are words"),
        ("ask", {"prompt": "a", "images": ["http://example.org/a.png"]}, "no data: address"),
        ("ask", {"prompt": "a", "images": ["data:image/png;base64,%%"]}, "base64 is broken"),
        ("ask", {"prompt": "a", "images": [picture()] * 9}, "at most 8"),
        ("ask", {"prompt": "a", "images": [picture(8500)]}, "more than 64 megapixels"),
        ("report?answers=", None, "There is no answer to report"),
        ("report?answers=nobody", None, "no longer kept"),
        ("ask", {"prompt": "a", "turns": ["b"]}, "a list of [question, answer]"),
        ("ask", {"prompt": "a", "new_tokens": 10**6}, "give 1 to 1024"),
        ("answers/nobody/cut", {}, "no longer kept"),
        ("answers/{name}/cut", {"positions": [10**6]}, "There is no position 1000000"),
        ("answers/{name}/cut", {"heads": [[9, 0]]}, "There is no head 9.0"),
        ("answers/{name}/cut", {"heads": [3]}, "a list of [layer, head]"),
    ],
)
def test_a_wrong_request_is_refused(address: str, answer: dict[str, Any], path: str, body: Any, sentence: str) -> None:
    with pytest.raises(HTTPError) as refused:
        post(address + path.format(name=answer["name"]), body)
    assert refused.value.code == 400
    assert sentence in json.load(refused.value)["error"]


def test_sliders_reach_what_a_field_may_be(address: str) -> None:
    methods = {method["name"]: method for method in json.load(urlopen(address + "methods"))}
    fields = {name: {field["name"]: field for field in method["fields"]} for name, method in methods.items()}
    for name, each in fields.items():
        for field in each.values():
            if field["kind"] in ("number", "whole"):
                assert field["low"] < field["high"], (name, field)
                assert field["default"] is None or field["low"] <= field["default"] <= field["high"], (name, field)
    assert (fields["vcd"]["step"]["low"], fields["vcd"]["step"]["high"]) == (0, 999)
    assert (fields["vcd"]["beta"]["low"], fields["vcd"]["beta"]["high"]) == (0, 1)
    assert fields["pai"]["first_layer"]["high"] == 7, "tiny-llava's last layer"
    assert fields["pai"]["target"]["choices"] == ["image", "text"]
    assert fields["var"]["skip_last"]["kind"] == "switch"
    assert methods["vcd"]["needs"] is None
    assert "dims" in methods["var"]["needs"]


@pytest.mark.parametrize("method", ["opera", "repeat", "divprune", "fastervlm", "cdpruner"])
def test_methods_of_another_prompt_or_of_beams_keep_words_and_places(
    address: str, answer: dict[str, Any], method: str
) -> None:
    last = asked(address, method=method)[-1]
    assert "answer" in last, last
    plain_maps, maps = answer["maps"], last["answer"]["maps"]
    assert maps["prompt"] == plain_maps["prompt"], "words are named as they were given"
    count = len(maps["prompt"])
    assert last["answer"]["columns"][:count] == answer["columns"][:count]
    assert all(len(column) <= 1 or place >= count for place, column in enumerate(last["answer"]["columns"]))


def test_another_picture_stands_in_for_the_first(address: str, answer: dict[str, Any]) -> None:
    other = asked(address, view="another", others=[picture(80)])[-1]["answer"]
    assert other["images"][0]["width"] == 80
    assert answer["images"][0]["width"] == 64


def test_the_report_holds_the_answers_side_by_side(address: str, answer: dict[str, Any]) -> None:
    other = asked(address, method="vaf")[-1]["answer"]
    reply = urlopen(f"{address}report?answers={answer['name']}+{other['name']}")
    assert "attachment" in reply.headers["content-disposition"]
    text = reply.read().decode()
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert [variant["name"] for variant in data["samples"][0]["variants"]] == ["plain", "vaf"]
    assert answer["text"] in "".join(part for part, _ in data["finding"]["parts"])


def test_the_python_asks_the_same_question(address: str, answer: dict[str, Any]) -> None:
    code = json.load(urlopen(f"{address}answers/{answer['name']}/python"))["code"]
    compile(code, "code", "exec")
    assert "What is in the picture?" in code
    turns = [["Is there a red circle in the image?", "yes"]]
    later = asked(address, turns=turns, prompt="And a blue square?", images=[], view="without")[-1]["answer"]
    code = json.load(urlopen(f"{address}answers/{later['name']}/python"))["code"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.replace("max_new_tokens=64", "max_new_tokens=6"), {})
    assert printed.getvalue().strip() == later["text"]


def test_who_waits_is_told_how_many_are_before() -> None:
    async def three() -> list[list[int]]:
        line, places, gate = WaitingLine(), [[], [], []], threading.Event()  # type: ignore[var-annotated]
        works = [asyncio.ensure_future(line.run(gate.wait, places[number].append)) for number in range(3)]
        await asyncio.sleep(0.05)
        works[1].cancel()  # a closed tab leaves the line
        await asyncio.sleep(0.3)
        gate.set()
        await asyncio.gather(*works, return_exceptions=True)
        line.close()
        return places

    assert asyncio.run(three()) == [[0], [1], [2, 1]]


def test_loading_is_no_question_of_somebody() -> None:
    gate = threading.Event()

    def slow() -> Engine:
        gate.wait(60)
        return Engine(load("tiny-llava"))

    server, address = serve(build("tiny-llava", slow))
    try:
        threading.Timer(0.6, gate.set).start()
        events = asked(address)
    finally:
        gate.set()
        server.should_exit = True
    assert events[0] == {"place": 0, "loaded": False}, "the page says that the model is being loaded"
    assert "answer" in events[-1]


def test_outside_loopback_the_address_needs_its_token() -> None:
    server, address = serve(build("tiny-llava", NotImplemented, token="secret"))
    try:
        with pytest.raises(HTTPError) as refused:
            urlopen(address)
        assert refused.value.code == 403
        with urlopen(address + "?token=secret") as page:
            assert page.status == 200
            assert "sightline-token=secret" in page.headers["set-cookie"]
    finally:
        server.should_exit = True


def test_an_end_waits_for_no_model_that_is_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def slow() -> Engine:
        gate.wait(60)
        raise InputError("too late")

    bound = bind("tiny-llava", slow, 0, "127.0.0.1")
    serving = threading.Thread(target=bound.run)
    serving.start()
    while not bound.line.is_working:
        time.sleep(0.01)
    bound.server.should_exit = True
    serving.join(20)
    assert not serving.is_alive()
    assert bound.line.is_working
    gate.set()
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    monkeypatch.setattr("sightline.live.serving.serve", lambda *_, **__: True)
    assert CliRunner().invoke(command, ["tiny-llava"]).exit_code == 0
    assert codes == [0]


def test_what_cannot_be_served_on_is_named() -> None:
    with pytest.raises(InputError, match="There is no host 'x y' to serve on"):
        bind("tiny-llava", NotImplemented, 0, "x y")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match="is taken: give another port"):
            bind("tiny-llava", NotImplemented, other.getsockname()[1], "127.0.0.1")
