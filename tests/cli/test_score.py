"""sightline score, and the benchmarks that sightline list knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import SightlineError


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Two splits of POPE, two questions each, without images."""
    for split in ("random", "popular"):
        records = [
            {"question_id": number, "image": "a.jpg", "text": f"Is there a {split} {number}?", "label": label}
            for number, label in ((1, "yes"), (2, "no"))
        ]
        write(tmp_path / "coco" / f"coco_pope_{split}.json", records)
    return tmp_path / "coco"


def write(path: Path, records: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    words = {"random/1": "Yes.", "random/2": "Nope", "popular/1": "no", "popular/2": "\ud800 لا \x00 🙂"}
    return write(tmp_path / "answers.jsonl", [{"id": name, "response": text} for name, text in words.items()])


def test_document_table_and_items(sightline: Callable[..., Any], labels: Path, answers: Path) -> None:
    words = ("score", "pope", "--answers", answers, "--data", labels)
    document = sightline(*words, "--json", "--items", "items.jsonl").document
    assert (document["bench"], document["parser"], document["n"], document["unparsed"]) == ("pope", "official", 4, 2)
    assert (document["accuracy"], document["precision"], document["recall"]) == (0.25, 1 / 3, 0.5)
    assert list(document["splits"]) == ["random", "popular"]
    assert document["missing"] == document["unknown"] == 0
    items = [json.loads(line) for line in Path("items.jsonl").read_text().splitlines()]
    assert [(item["id"], item["parsed"], item["right"]) for item in items] == [
        ("random/1", "yes", True), ("random/2", "yes", False), ("popular/1", "no", False), ("popular/2", "yes", False),
    ]  # fmt: skip
    assert items[3]["response"] == "\ud800 لا \x00 🙂"
    table = sightline(*words).out
    assert "POPE, official parser" in table
    assert "popular" in table
    assert "0.2500" in table
    strict = sightline(*words, "--json", "--parser", "strict", "--items", "items.jsonl").document
    assert (strict["parser"], strict["unparsed"], strict["accuracy"]) == ("strict", 2, 0.25)
    assert json.loads(Path("items.jsonl").read_text().splitlines()[1])["parsed"] is None


def test_missing_answers_are_told(sightline: Callable[..., Any], labels: Path, answers: Path) -> None:
    ended = sightline("score", "pope", "--answers", answers, "--data", labels / "coco_pope_random.json", "--json")
    assert ended.document["unknown"] == 2
    write(answers, [{"id": "random/1", "response": "yes"}])
    ended = sightline("score", "pope", "--answers", answers, "--data", labels)
    assert "missing: 3 of 4 items have no answer" in ended.err
    assert "missing" in ended.out
    ended = sightline("score", "pope", "--answers", answers, "--data", labels, "--split", "random", "--json")
    assert (ended.document["missing"], list(ended.document["splits"])) == (1, ["random"])


def test_answers_that_carry_their_items_need_no_data(sightline: Callable[..., Any], tmp_path: Path) -> None:
    records = [
        {"question": "Is there a dog?", "answer": "yes", "label": "yes"},
        {"question": "Is there a cat?", "answer": "yes", "label": "no"},
    ]
    path = write(tmp_path / "a.jsonl", records)
    assert sightline("score", "pope", "--answers", path, "--json").document["accuracy"] == 0.5
    folder = tmp_path / "Your_Results"
    folder.mkdir()
    (folder / "OCR.txt").write_text("1.jpg\tIs it?\tYes\tyes\n1.jpg\tIsn't it?\tNo\tNo.\n")
    document = sightline("score", "mme", "--answers", folder, "--json").document
    assert (document["total"], document["subtasks"]["OCR"]["score"]) == (200.0, 200.0)
    assert "OCR" in sightline("score", "mme", "--answers", folder).out


def test_wrong_use_is_one_sentence(sightline: Callable[..., Any], labels: Path, answers: Path) -> None:
    words = ("score", "pope", "--answers", answers, "--data", labels)
    assert "There is no benchmark named 'pop'" in sightline("score", "pop", *words[2:]).sentence
    assert "takes no synonyms" in sightline(*words, "--synonyms", "s.txt").sentence
    assert "'guess' is not one of 'official', 'strict'" in sightline(*words, "--parser", "guess").sentence
    assert "The answers nothing.jsonl do not exist" in sightline("score", "pope", "--answers", "nothing.jsonl").sentence
    assert "holds no answers to pope" in sightline("score", "pope", "--answers", labels.parent / "coco").sentence
    assert "is no run folder" in sightline(*words, "--method", "var").sentence
    assert "no split 'rare'" in sightline(*words, "--split", "rare").sentence
    assert "its folder does not exist" in sightline(*words, "--items", "no/where.jsonl").sentence
    assert "is a folder" in sightline(*words, "--items", ".").sentence
    assert "to `sightline score`: --data DIR" in sightline("score", "pope", "--answers", answers).sentence
    assert "takes no mode" in sightline(*words, "--mode", "cot").sentence
    assert "has no mode 'slow'" in sightline("score", "mmmu-pro", *words[2:], "--mode", "slow").sentence


def test_an_items_file_that_cannot_be_written(
    sightline: Callable[..., Any], labels: Path, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SightlineError("runs: the disk is full") from OSError(28, "No space left on device")

    monkeypatch.setattr("sightline.pages.tables.score.write_atomically", full)
    ended = sightline("score", "pope", "--answers", answers, "--data", labels, "--items", "items.jsonl")
    assert ended.code == 1
    assert ended.sentence == "The items file items.jsonl cannot be written (No space left on device): give another."


def test_chair_takes_its_list_of_images_and_its_singulars(sightline: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    assert sightline("shapes", "--bench", "chair", "--out", folder, "--count", 6).code == 0
    about = json.loads((folder / "annotations" / "captions_val2014.json").read_text())
    ids = [image["id"] for image in about["images"]]
    answers = write(tmp_path / "a.jsonl", [{"image_id": name, "caption": "Red circles."} for name in ids])
    words = ("score", "shapes-chair", "--answers", answers, "--data", folder)
    assert sightline(*words, "--json").document["mentions"] == 6
    (tmp_path / "images.txt").write_text("\n".join(map(str, ids[:4])))
    ended = sightline(*words, "--image-list", tmp_path / "images.txt", "--json").document
    assert (ended["n"], ended["missing"], ended["unknown"]) == (4, 0, 2)
    assert "no way named 'odd' to make singulars" in sightline(*words, "--singular", "odd").sentence


def test_a_run_folder_says_itself_what_was_chosen(sightline: Callable[..., Any], labels: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    about = {"command": "eval", "settings": {"bench": "pope"}, "info": {"path": str(labels), "limit": None}}
    fields = {"split": "popular", "template": None, "odd": 5}
    (run / "run.json").write_text(json.dumps(about | {"info": {**about["info"], "fields": fields}}))
    lines = [{"id": f"popular/{n}", "model": "m", "method": "none", "result": {"response": "yes"}} for n in (1, 2)]
    write(run / "samples.jsonl", lines)
    words = ("score", "pope", "--answers", run, "--json")
    document = sightline(*words).document
    assert (document["n"], document["missing"], list(document["splits"])) == (2, 0, ["popular"])
    assert sightline(*words, "--split", "popular+random").document["missing"] == 2
    (run / "run.json").write_text(json.dumps(about | {"info": {**about["info"], "fields": "odd"}}))
    assert sightline(*words).document["missing"] == 2


def test_benches_are_listed(sightline: Callable[..., Any]) -> None:
    known = {bench["name"]: bench for bench in sightline("list", "benches", "--json").document["benches"]}
    assert {"shapes", "pope", "mme"} <= set(known)
    assert known["mme"]["headline"] == "total"
    assert known["pope"]["about"].startswith("POPE: yes-no questions")
    assert [field["name"] for field in known["pope"]["fields"]] == ["template", "split"]
    assert "split=None  only this split" in sightline("list", "benches").out
    assert all(field["help"] for bench in known.values() for field in bench.get("fields", ()))
