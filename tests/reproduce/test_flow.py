"""Information flow: cut by whole passes as by impact's rows, the question found, the official questions read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import sightline as sl
from model_folders import save_llava
from sightline.errors import InputError
from sightline.knockout.flow import cut_flow
from sightline.knockout.reader import read_row
from sightline.published import information_flow, question_positions
from sightline.published.gqa import read_questions

PICTURE = Image.radial_gradient("L").convert("RGB")
QUESTION = "Is the jar full, or empty? \u2603"
SAMPLE = sl.Sample(prompt=f"{QUESTION} \nOne word.", images=(PICTURE,))


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> sl.VLM:
    return sl.load(str(save_llava(tmp_path_factory.mktemp("flow") / "model")))


def test_whole_passes_equal_rows(vlm: sl.VLM) -> None:
    inputs = vlm.encode(SAMPLE)
    layout = vlm.layout(inputs)
    question = question_positions(vlm.tokenizer, inputs["input_ids"][0], layout, QUESTION)
    last = layout.length - 1
    for source in (question, layout.positions(0, sl.Modality.IMAGE).tolist(), [last]):
        with read_row(vlm, inputs) as reader:
            token, prob = reader.predicted, reader.baseline()["prob"]
            rows = reader.causal([source], window=3, target=token)["prob"][:, 0]
        passes = cut_flow(vlm, inputs, source, [last], 3, token)
        assert torch.allclose(passes - prob, rows.double(), atol=1e-6)


def test_every_flow(vlm: sl.VLM) -> None:
    found = information_flow(vlm, SAMPLE, QUESTION, window=1)
    layers = len(vlm.anatomy.layers)
    assert {len(change) for change in found.change.values()} == {layers}
    assert all(value is not None and value >= -100 for change in found.change.values() for value in change)
    through, straight = found.change["image -> question"], found.change["image -> last"]
    # What the question learns in the last layer, no later row reads.
    assert through[-1] == pytest.approx(0, abs=1e-3)
    assert abs(straight[-1] or 0) > 1e-3
    assert max(abs(value or 0) for value in through) > 1e-3
    with pytest.raises(InputError, match="there are image -> last"):
        information_flow(vlm, SAMPLE, QUESTION, flows=("last -> image",))


def test_the_question_is_found_word_by_word(vlm: sl.VLM) -> None:
    inputs = vlm.encode(SAMPLE)
    layout = vlm.layout(inputs)
    places = question_positions(vlm.tokenizer, inputs["input_ids"][0], layout, QUESTION)
    assert places == list(range(places[0], places[0] + len(QUESTION.encode())))
    assert vlm.tokenizer.decode(inputs["input_ids"][0][places]).strip() == QUESTION
    with pytest.raises(InputError, match="does not stand behind the image"):
        question_positions(vlm.tokenizer, inputs["input_ids"][0], layout, "Is it another?")


HEAD = "question_id,img_id,question,answer,true option\n"


def csv(folder: Path, *rows: str, head: str = HEAD) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    PICTURE.save(folder / "images" / "2390560.jpg")
    path = folder / "GQA_ChooseAttr.csv"
    path.write_text(head + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def test_official_questions(tmp_path: Path) -> None:
    path = csv(tmp_path, '1,2390560,"Is the jar, there, full?",empty,empty', "02,2390560,Ist es größer?,größer,x")
    samples, digest = read_questions(path)
    assert [(sample.id, sample.prompt, sample.answer) for sample in samples] == [
        ("1", "Is the jar, there, full?", "empty"),
        ("02", "Ist es größer?", "größer"),
    ]
    assert len(samples[0].load_images()) == 1
    assert len(digest) == 64
    assert len(read_questions(path, 1)[0]) == 1


@pytest.mark.parametrize(
    ("rows", "head", "words"),
    [
        ((), HEAD, "has no question"),
        (("1,2,3,4,5",), "a,b,c,d,e\n", "no column 'question_id'"),
        (("1,999,Is it?,yes,y",), HEAD, "999.jpg of .* is not beside it"),
        (("1,2390560,Is it?,yes,y", "1,2390560,Is it?,yes,y"), HEAD, "stands there twice"),
        (("1,2390560,,yes,y",), HEAD, "question or its answer is missing"),
        (("1,2390560,Is it?",), HEAD, "no column 'answer'"),
    ],
)
def test_wrong_questions(tmp_path: Path, rows: tuple[str, ...], head: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_questions(csv(tmp_path, *rows, head=head))


def test_files_that_are_no_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_questions(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(InputError, match="no CSV file"):
        read_questions(tmp_path / "bytes.csv")
    (tmp_path / "a.jsonl").write_text('{"id": "1", "prompt": "Is it?"}\n')
    with pytest.raises(InputError, match="has no answer"):
        read_questions(tmp_path / "a.jsonl")
