"""Samples from files, tables, data sets, lists and conversations: what is read, and what is refused in one sentence."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

import sightline as sl
from sightline.data.json_lines import read_samples, write_samples
from sightline.data.messages import Part, Turn, is_messages
from sightline.data.sources import as_sample, as_samples, samples_digest
from sightline.errors import InputError

RED = Image.new("RGB", (8, 6), "red")
BLUE = Image.new("RGB", (8, 6), "blue")


def encoded(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def data_uri(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(encoded(picture)).decode()


def colours(sample: sl.Sample) -> list[Any]:
    return [image.getpixel((2, 2)) for image in sample.load_images()]


RED_BLUE = [(255, 0, 0), (0, 0, 255)]


def test_a_conversation_keeps_the_order_of_words_and_images() -> None:
    sample = sl.Sample(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image", "image": RED}, {"type": "text", "text": "Colour?"}]},
            {"role": "assistant", "content": "Red."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "And"},
                    {"type": "image_url", "image_url": {"url": data_uri(BLUE)}},
                    {"type": "text", "text": "this?"},
                ],
            },
        ]
    )
    assert [turn.role for turn in sample.turns] == ["system", "user", "assistant", "user"]
    assert [[part.kind for part in turn.parts] for turn in sample.turns][1:] == [
        ["image", "text"],
        ["text"],
        ["text", "image", "text"],
    ]
    assert (sample.prompt, sample.answer) == ("And this?", None)
    assert colours(sample) == RED_BLUE
    assert sample.marks_places


def test_a_last_turn_of_the_assistant_is_the_answer() -> None:
    turns = [{"role": "user", "content": "Two and two?"}, {"role": "assistant", "content": "Four."}]
    sample = sl.Sample(messages=turns)
    assert (sample.prompt, sample.answer, len(sample.turns)) == ("Two and two?", "Four.", 1)
    with pytest.raises(InputError, match="end in an answer, and answer= is another"):
        sl.Sample(messages=turns, answer="5")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image"}, {"type": "text", "text": "one"}, {"type": "image"}],
        "<image>one<image>",
        [{"type": "text", "text": "<image>one<image>"}],
    ],
)
def test_images_beside_a_conversation_fill_its_places(content: Any) -> None:
    sample = sl.Sample(messages=[{"role": "user", "content": content}], images=(RED, BLUE))
    assert [part.kind for part in sample.turns[0].parts] == ["image", "text", "image"]
    assert colours(sample) == RED_BLUE
    turned = sl.Sample(messages=sample.messages, images=(BLUE, RED))
    assert colours(turned) == RED_BLUE[::-1], "images given anew take the places of the first"


def test_images_without_a_place_stand_before_the_first_words_of_the_user() -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    sample = sl.Sample(messages=turns, images=(RED,))
    assert [part.kind for part in sample.turns[1].parts] == ["image", "text"]


@pytest.mark.parametrize(
    ("messages", "beside", "reason"),
    [
        ([], {}, "are empty"),
        ("hello", {}, "no list of"),
        ([{"role": "user"}], {}, "neither words nor a list of parts"),
        ([{"role": "user", "content": []}], {}, "message 1 is empty"),
        ([{"role": "user", "content": " "}], {}, "last words of the user are empty"),
        ([{"role": "tool", "content": "x"}], {}, "role 'tool': give system, user, assistant"),
        ([{"role": "user", "content": "x", "tool_calls": [1]}], {}, "'tool_calls', which is not understood"),
        ([{"role": "system", "content": "x"}], {}, "nothing to ask"),
        ([{"role": "user", "content": [{"type": "sound"}]}], {}, "\"type\" 'sound': give text, image"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], {}, "no string"),
        ([{"role": "user", "content": [{"type": "image", "image": "a", "min_pixels": 3}]}], {}, "'min_pixels'"),
        ([{"role": "user", "content": [{"type": "image", "image": "a", "url": "b"}]}], {}, "give one of them"),
        ([{"role": "user", "content": [{"type": "image", "base64": "%"}, "x"]}], {}, "base64 .* is damaged"),
        ([{"role": "user", "content": [{"type": "video", "video": "a.mp4"}, "x"]}], {}, "give its frames"),
        ([{"role": "user", "content": [{"type": "image"}, "x"]}], {}, r"places for images \(1\), and 0 are given"),
        ([{"role": "user", "content": "<image> x"}], {"images": (RED, BLUE)}, r"places for images \(1\), and 2"),
        ([{"role": "user", "content": "x"}], {"prompt": "y"}, "a prompt and messages: give one"),
    ],
)
def test_a_conversation_that_is_not_understood_is_one_sentence(messages: Any, beside: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        sl.Sample(messages=messages, **beside)
    assert "\n" not in str(caught.value)


def test_lines_of_messages_stand_beside_lines_of_prompts(tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    content = [{"type": "image", "image": "red.png"}, {"type": "text", "text": "Colour?"}]
    lines = [
        {"id": "a", "image": "red.png", "prompt": "Colour?"},
        {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "Red"}]},
        {"messages": [{"role": "user", "content": "<image>Colour?"}], "images": ["red.png"]},
        {"messages": [{"role": "user", "content": content[1:]}], "image": data_uri(RED)},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples = read_samples(path)
    assert [sample.id for sample in samples] == ["a", "2", "3", "4"]
    assert all(colours(sample) == [(255, 0, 0)] for sample in samples)
    assert {sample.prompt for sample in samples} == {"Colour?"}
    assert samples[1].answer == "Red"
    write_samples(tmp_path / "again.jsonl", samples)
    again = read_samples(tmp_path / "again.jsonl")
    assert [(each.turns, each.answer) for each in again] == [(each.turns, each.answer) for each in samples]
    path.write_text(json.dumps({"messages": [{"role": "cat", "content": "x"}]}))
    with pytest.raises(InputError, match=r"data\.jsonl, line 1: .*role 'cat'"):
        read_samples(path)


RECORDS = [{"id": "r", "image": RED, "prompt": "Red?", "answer": "yes"}, {"id": "b", "image": BLUE, "prompt": "Blue?"}]


def dataset() -> Any:
    datasets = pytest.importorskip("datasets")
    rows = {name: [record.get(name) for record in RECORDS] for name in ("id", "prompt", "answer", "image")}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


@pytest.mark.parametrize(
    "data",
    [
        [sl.Sample(**record) for record in RECORDS],
        RECORDS,
        iter(RECORDS),
        pd.DataFrame(RECORDS),
        pd.DataFrame([{**each, "image": {"bytes": encoded(each["image"]), "path": None}} for each in RECORDS]),
        [
            [{"role": "user", "content": [{"type": "image", "image": each["image"]}, each["prompt"]]}]
            for each in RECORDS
        ],
        dataset,
    ],
    ids=["samples", "dicts", "iterator", "frame", "frame of bytes", "conversations", "dataset"],
)
def test_all_forms_of_data_are_the_same_samples(data: Any) -> None:
    samples = as_samples(data() if callable(data) else data)
    assert [sample.prompt for sample in samples] == ["Red?", "Blue?"]
    assert [colours(sample)[0] for sample in samples] == RED_BLUE
    assert [sample.id for sample in samples] in (["r", "b"], ["1", "2"])


def test_one_sample_and_one_conversation_are_data_too() -> None:
    assert [sample.id for sample in as_samples(sl.Sample("x"))] == ["1"]
    assert as_samples([{"role": "user", "content": "x"}])[0].prompt == "x"
    assert as_samples({"prompt": "x", "id": 3})[0].id == "3"
    assert is_messages((Turn("user", (Part("text", "x"),)),))
    assert not is_messages([{"prompt": "x"}])


def test_several_images_of_a_row_are_read_in_order() -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"images": [[RED, BLUE]], "prompt": ["Which?"]})
    rows = rows.cast_column("images", [datasets.Image()])
    assert colours(as_samples(rows)[0]) == RED_BLUE
    assert colours(as_samples(pd.DataFrame({"images": [[RED, BLUE]], "prompt": ["Which?"]}))[0]) == RED_BLUE


def test_a_limit_reads_no_further() -> None:
    def endless() -> Any:
        while True:
            yield {"prompt": "x"}

    assert len(as_samples(endless(), limit=3)) == 3


def test_names_that_are_no_files_are_looked_up(tmp_path: Path) -> None:
    assert as_samples("toy", named=lambda name: [sl.Sample(name)])[0].prompt == "toy"
    with pytest.raises(InputError, match="does not exist"):
        as_samples(tmp_path / "missing.jsonl", named=lambda name: [])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "holds no sample"),
        (7, "The data is of type int: give a path"),
        ([7], "Row 1: what is of type int is no sample"),
        ([{"question": "x"}], 'Row 1: "prompt" is missing'),
        ({"train": []}, "mapping of 'train'"),
        ({"input_ids": [1]}, "what a model's forward takes"),
        (pd.DataFrame({"question": ["x"]}), "columns question, and no prompt"),
        (pd.DataFrame({"prompt": [None]}), 'Row 1: "prompt" is missing'),
        ([{"id": 1, "prompt": "x"}, {"id": "1", "prompt": "y"}], "Row 2: the id '1' is already that of row 1"),
    ],
)
def test_data_that_is_none_is_one_sentence(data: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        as_samples(data)


def test_addresses_are_not_fetched_and_data_uris_are_read() -> None:
    assert colours(sl.Sample("x", image=data_uri(RED))) == [(255, 0, 0)]
    for address in ("http://a.b/c.png", "https://a.b/c.png", "file:///etc/passwd", "s3://a/b.png"):
        with pytest.raises(InputError, match="nothing is fetched"):
            sl.Sample("x", image=address).load_images()
    for broken, reason in (("data:image/png;base64", "without a comma"), ("data:;base64,%%%", "damaged base64")):
        with pytest.raises(InputError, match=reason):
            sl.Sample("x", image=broken).load_images()


def test_a_digest_tells_samples_apart() -> None:
    same = samples_digest(as_samples(RECORDS))
    assert same == samples_digest(as_samples(RECORDS))
    assert same != samples_digest(as_samples([{**RECORDS[0], "image": BLUE}, RECORDS[1]]))
    assert same != samples_digest(as_samples([{**RECORDS[0], "prompt": "red?"}, RECORDS[1]]))


def test_a_single_entry_keeps_its_id() -> None:
    assert as_sample(sl.Sample("x", id="a"), "1").id == "a"
    assert as_sample({"prompt": "x"}, "1").id == "1"
