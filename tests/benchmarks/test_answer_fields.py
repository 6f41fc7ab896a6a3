"""Under which name a model's words are read: never the truth, never the question, whatever a table calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.benchmarks import find_bench
from sightline.benchmarks.answer_fields import RESPONSE_FIELDS, order_for, truth_forms
from sightline.benchmarks.answers import score_answers
from sightline.errors import InputError
from support.json_lines import lines

POPE = find_bench("pope")
THINGS = ("dog", "cat", "car", "cup", "bus") * 5


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    records = [
        {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {thing} in the image?", "label": truth(n)}
        for n, thing in enumerate(THINGS)
    ]
    return lines(tmp_path / "coco_pope_random.json", records)


def truth(number: int) -> str:
    return "yes" if number % 2 else "no"


def said(number: int) -> str:
    """Wrong at every fifth."""
    return ("No" if number % 2 else "Yes") if number % 5 == 0 else truth(number).capitalize()


NAMES = ("response", "prediction", "pred", "output", "model_prediction", "generated_text", "model_answer")


@pytest.mark.parametrize("name", [*NAMES, "filtered_resps", "text", "caption"])
def test_words_beside_the_truth_are_read(tmp_path: Path, labels: Path, name: str) -> None:
    records = [{"index": n, "question": f"Is there a {thing} in the image?", "answer": truth(n), name: said(n)}
               for n, thing in enumerate(THINGS)]  # fmt: skip
    scored = score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels)
    assert scored.document["accuracy"] == 0.8
    assert scored.field == name
    if name in NAMES:  # without the benchmark's files the truth stands in the lines
        assert score_answers(POPE, tmp_path / "a.jsonl").document["accuracy"] == 0.8


def test_a_question_is_no_answer(tmp_path: Path, labels: Path) -> None:
    records = [{"question_id": n, "text": f"Is there a {thing} in the image?", "caption": said(n)}
               for n, thing in enumerate(THINGS)]  # fmt: skip
    assert score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels).document["accuracy"] == 0.8


def test_the_truth_alone_is_no_answer_unless_the_user_says_so(tmp_path: Path, labels: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"question_id": n, "answer": truth(n)} for n in range(len(THINGS))])
    with pytest.raises(InputError, match=r"equals the truth of each of its 25 items.*--field answer"):
        score_answers(POPE, path, labels)
    assert score_answers(POPE, path, labels, field="answer").document["accuracy"] == 1.0


def test_a_model_that_is_always_right_is_believed(tmp_path: Path, labels: Path) -> None:
    records = [{"question_id": n, "answer": truth(n), "prediction": truth(n)} for n in range(len(THINGS))]
    assert score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels).document["accuracy"] == 1.0


def number_of(number: int) -> int:
    return int(truth(number) == "yes")


@pytest.mark.parametrize(
    "table",
    [
        lambda n: {"output": truth(n), "prediction": said(n)},
        lambda n: {"output": truth(n), "response": said(n), "answer": "free words"},
        lambda n: {"answer": [truth(n)], "text": said(n)},
        lambda n: {"answer": number_of(n), "caption": said(n)},
        lambda n: {"answer": float(number_of(n)), "caption": said(n)},
        lambda n: {"answer": truth(n) == "yes", "text": said(n)},
        lambda n: {"answer": f"({truth(n).upper()})", "predict": said(n), "text": "Look at the picture."},
        lambda n: {"answer": "something else", "predict": said(n)},
        lambda n: {"response": None, "prediction": said(n), "answer": truth(n)},
        lambda n: {"response": "", "answer": truth(n), "text": said(n)},
        lambda n: {"label": truth(n), "predict": said(n), "prompt": f"Is there a {THINGS[n]} in the image?"},
    ],
)
def test_whatever_a_table_calls_the_truth_it_is_not_scored(tmp_path: Path, labels: Path, table: Any) -> None:
    path = lines(tmp_path / "a.jsonl", [{"question_id": n, **table(n)} for n in range(len(THINGS))])
    assert score_answers(POPE, path, labels).document["accuracy"] == 0.8


def test_a_line_without_words_is_missing_and_its_truth_not_read(tmp_path: Path, labels: Path) -> None:
    records = [{"question_id": n, "answer": "Sure." if n else truth(n), "prediction": said(n)} for n in range(25)]
    for number in (1, 2, 3):
        records[number] = {"question_id": number, "answer": truth(number)}
    document = score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels).document
    assert (document["n"], document["missing"]) == (22, 3)


def test_few_lines_of_the_truth_beside_words_of_another_name_are_refused(tmp_path: Path, labels: Path) -> None:
    records = [{"question_id": n, "answer": truth(n), "what it says": said(n)} for n in range(4)]
    with pytest.raises(InputError, match=r"'what it says' may hold the words.*--field answer"):
        score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels)
    assert score_answers(POPE, tmp_path / "a.jsonl", labels, field="what it says").document["n"] == 4


def test_where_two_fields_may_be_the_words_the_user_says_which(tmp_path: Path, labels: Path) -> None:
    records = [{"question_id": n, "output": truth(n), "answer": said(n)} for n in range(25)]
    path = lines(tmp_path / "a.jsonl", records)
    with pytest.raises(InputError, match=r"'output' equals the truth of each of its 25 items, and 'answer' stands"):
        score_answers(POPE, path, labels)
    assert score_answers(POPE, path, labels, field="answer").document["accuracy"] == 0.8


def test_the_right_option_by_number_or_words_is_the_truth() -> None:
    options = ["red", "blue"]
    assert truth_forms("B", options) == ("B", "1", "2", "blue")
    assert truth_forms("no") == ("no", "0", "false")
    assert truth_forms(["dog"]) == ()
    for form in (lambda n: n % 2, lambda n: n % 2 + 1, lambda n: ["red", "blue"][n % 2], lambda n: "(AB"[n % 2 + 1]):
        told = [({"answer": form(n), "text": "A"}, truth_forms("AB"[n % 2], options), "") for n in range(5)]
        assert order_for(RESPONSE_FIELDS, told, "a.jsonl") == ("text",)


@pytest.mark.parametrize(
    "write",
    [
        lambda n: (str(n), said(n)),
        lambda n: (str(n), {"origin_prompt": "Is there?", "prediction": said(n), "gold": truth(n)}),
    ],
)
def test_one_object_of_many_answers_is_read(tmp_path: Path, labels: Path, write: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dict(map(write, range(25))), indent=1))
    assert score_answers(POPE, path, labels).document["accuracy"] == 0.8


def test_places_counted_from_0_are_no_ids_of_questions_counted_from_1(tmp_path: Path) -> None:
    records = [{"question_id": n + 1, "text": f"Is there a {THINGS[n]}?", "label": truth(n)} for n in range(25)]
    labels = lines(tmp_path / "coco_pope_random.json", records)
    path = tmp_path / "a.json"
    path.write_text(json.dumps({str(n): {"prediction": said(n), "gold": truth(n)} for n in range(25)}))
    assert score_answers(POPE, path, labels).document["accuracy"] == 0.8


def test_what_openai_writes_of_a_batch_is_read(tmp_path: Path, labels: Path) -> None:
    body = [{"choices": [{"message": {"content": said(n)}}]} for n in range(25)]
    records: list[dict[str, Any]] = [
        {"id": f"batch_req_{n}", "custom_id": str(n), "response": {"status_code": 200, "body": body[n]}, "error": None}
        for n in range(25)
    ]
    assert score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels).document["accuracy"] == 0.8
    records[4] |= {"response": None, "error": {"code": "batch_expired"}}
    assert score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels).document["missing"] == 1


def test_failed_calls_of_vlmevalkit_are_missing(tmp_path: Path, labels: Path) -> None:
    records: list[dict[str, Any]] = [{"index": n, "prediction": said(n)} for n in range(len(THINGS))]
    records[3]["prediction"] = "Failed to obtain answer via API."
    document = score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels).document
    assert (document["n"], document["missing"]) == (24, 1)


def test_tables_of_other_harnesses(tmp_path: Path, labels: Path) -> None:
    rows = [f"{n}\tIs there a {thing} in the image?\t{truth(n)}\t{said(n)}" for n, thing in enumerate(THINGS)]
    path = tmp_path / "model_POPE.tsv"
    path.write_text("index\tquestion\tanswer\tprediction\n" + "\n".join(rows))
    assert score_answers(POPE, path, labels).document["accuracy"] == 0.8
    path = tmp_path / "model_POPE.csv"
    path.write_text("question_id,prediction\n" + "\n".join(f'{n},"{said(n)}, there\nis"' for n in range(25)))
    assert score_answers(POPE, path, labels).document["accuracy"] == 0.8
    path.write_text("question_id,prediction\n")
    with pytest.raises(InputError, match="holds no row"):
        score_answers(POPE, path, labels)


def test_files_in_utf16_are_named_as_such(tmp_path: Path, labels: Path) -> None:
    text = "\n".join(json.dumps({"question_id": n, "answer": said(n)}) for n in range(25))
    for kind in ("utf-16", "utf-16-le", "utf-16-be"):
        path = tmp_path / "a.jsonl"
        path.write_bytes(text.encode(kind))
        with pytest.raises(InputError, match="is UTF-16 text"):
            score_answers(POPE, path, labels)
    labels.write_bytes(labels.read_text().encode("utf-16"))
    with pytest.raises(InputError, match="is UTF-16 text"):
        POPE.truths(tmp_path)


def test_many_unread_answers_are_shown(tmp_path: Path, labels: Path) -> None:
    records = [{"question_id": n, "response": "I see a dog." if n < 4 else said(n)} for n in range(25)]
    scored = score_answers(POPE, lines(tmp_path / "a.jsonl", records), labels, parser="strict")
    assert any("4 of 25 answers could not be read" in note and "'I see a dog.'" in note for note in scored.notes)
    records = [{"question_id": n, "response": "I see a dog." if n < 2 else said(n)} for n in range(25)]
    scored = score_answers(POPE, lines(tmp_path / "b.jsonl", records), labels, parser="strict")
    assert scored.notes == ()


# LLaVA's answers: ids run over all splits -----------------------------------------------------------------------------


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """Three splits of their own length and order; half of the questions stand in all of them."""
    things = {
        "random": "dog cat car cup".split(),
        "popular": "dog cat bus hat".split(),
        "adversarial": "cup cat".split(),
    }
    found = {}
    for split, names in things.items():
        found[split] = [
            {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {name} in the image?", "label": truth(n)}
            for n, name in enumerate(names, start=1)
        ]
        lines(tmp_path / f"coco_pope_{split}.json", found[split])
    return found


LLAVA_ORDER = ("adversarial", "popular", "random")
RIGHT = {"adversarial": 1.0, "popular": 0.5, "random": 0.0}


def llava_lines(splits: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Right on adversarial, yes throughout popular, wrong on random."""
    found = []
    for split in LLAVA_ORDER:
        for question in splits[split]:
            other = "no" if question["label"] == "yes" else "yes"
            text = {"adversarial": question["label"], "popular": "yes", "random": other}[split]
            prompt = f"{question['text']}\nAnswer the question using a single word or phrase."
            found.append({"question_id": len(found) + 1, "prompt": prompt, "text": text, "category": split})
    return found


@pytest.mark.parametrize("has_category", [True, False])
def test_ids_that_run_over_all_splits(tmp_path: Path, splits: dict[str, Any], has_category: bool) -> None:
    records = llava_lines(splits)
    if not has_category:
        records = [{name: value for name, value in record.items() if name != "category"} for record in records]
    path = lines(tmp_path / "a.jsonl", records)
    document = score_answers(POPE, path, tmp_path).document
    assert {name: part["accuracy"] for name, part in document["splits"].items()} == RIGHT
    for split, accuracy in RIGHT.items():
        alone = score_answers(find_bench("pope", split=split), path, tmp_path).document
        assert (alone["accuracy"], alone["missing"]) == (accuracy, 0)


def test_one_splits_answers_without_ids_find_their_split(tmp_path: Path, splits: dict[str, Any]) -> None:
    records = [{"prompt": record["prompt"], "text": record["text"]} for record in llava_lines(splits)[:2]]
    document = score_answers(POPE, lines(tmp_path / "a.jsonl", records), tmp_path).document
    assert {name: part["accuracy"] for name, part in document["splits"].items()} == {"adversarial": 1.0}


def test_answers_to_other_questions_are_refused(tmp_path: Path, splits: dict[str, Any]) -> None:
    records = [{"question_id": n, "prompt": f"Is there a ship {n}?", "text": "yes"} for n in range(1, 9)]
    for record in splits["random"]:
        record["label"] = "yes"
    many = [{**splits["random"][0], "question_id": n, "text": f"Is there a boat {n}?"} for n in range(1, 9)]
    lines(tmp_path / "coco_pope_random.json", many)
    with pytest.raises(InputError, match="8 of 8 answers carry another question"):
        score_answers(find_bench("pope", split="random"), lines(tmp_path / "a.jsonl", records), tmp_path)


def test_a_folder_of_pope_and_repope_is_read_as_pope(tmp_path: Path, splits: dict[str, Any]) -> None:
    for split, records in splits.items():
        lines(tmp_path / f"coco_repope_{split}.json", records[:1])
    assert [item.group for item in POPE.truths(tmp_path)] == ["random"] * 4 + ["popular"] * 4 + ["adversarial"] * 2  # type: ignore[union-attr]


def test_popev2_is_read(tmp_path: Path) -> None:
    records = [{"image_id": n, "image_name": f"/images/{n}.jpg", "query": "Is there a dog?", "label": "No"}
               for n in (1, 2)]  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(records))
    items = POPE.truths(tmp_path)
    assert [(item.truth, item.about["image"]) for item in items] == [("no", "images/1.jpg"), ("no", "images/2.jpg")]  # type: ignore[union-attr]
