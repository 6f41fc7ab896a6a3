"""BLINK: official files and prompts, the official reading of answers, and the mean of subtasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tables import colour_of, png, write_parquet
from sightline.benchmarks import InvalidItem, Item, find_bench
from sightline.benchmarks.blink import IMAGES, SUBTASKS, official_label
from sightline.errors import InputError


def plain_official(response: str, count: int) -> str | None:
    """The steps of the official analyze_answer; None where it asks GPT-3.5."""
    all_choices = ["(A)", "(B)", "(C)", "(D)", "(E)"][:count]
    intersect = list(set(all_choices).intersection(set(response.split())))
    intersect_last = list(set(all_choices).intersection(set(response.split("\n\n")[-1].split())))
    if response in ["A", "B", "C", "D", "E"]:
        return "(" + response + ")"
    if response in ["(A)", "(B)", "(C)", "(D)", "(E)"]:
        return response
    if (len(intersect) != 1 and len(intersect_last) != 1) or len(intersect) < 1:
        return None
    if len(intersect_last) == 1:
        intersect = intersect_last
    return intersect[0]


AWKWARD = [  # response, number of options, official, strict
    ("A", 2, "(A)", "(A)"),
    ("E", 2, "(E)", None),
    ("(D)", 2, "(D)", None),
    ("F", 5, None, None),
    ("a", 2, None, None),
    (" A", 2, None, "(A)"),
    ("A.", 2, None, "(A)"),
    ("(A).", 2, None, "(A)"),
    ("**(B)**", 2, None, "(B)"),
    ("(B) the third image", 2, "(B)", "(B)"),
    ("The answer is (B) the third", 2, "(B)", "(B)"),
    ("It is (B).", 2, None, "(B)"),
    ("(A) or (B)", 2, None, None),
    ("(A) no\n\n(B) yes", 2, "(B)", None),
    ("(A) no\n\n(B).", 2, "(A)", None),
    ("(A) no\n(B) yes", 2, None, None),
    ("Either (A) or (B).\n\nSo (B) it is (B)", 2, "(B)", None),
    ("(A) (A)", 2, "(A)", "(A)"),
    ("(C) third", 2, None, None),
    ("Answer: B", 2, None, "(B)"),
    ("A dog", 2, None, None),
    ("", 4, None, None),
    ("\0", 4, None, None),
    ("\u202e(A)\u202c", 4, None, "(A)"),
    ("🤔 (D) 🎉", 4, "(D)", "(D)"),
    ("(C)\u00a0yes", 4, "(C)", "(C)"),
    ("(A) " * 50_000, 4, "(A)", "(A)"),
]


@pytest.mark.parametrize(("response", "count", "official", "strict"), AWKWARD)
def test_awkward_answers(response: str, count: int, official: str | None, strict: str | None) -> None:
    assert official == plain_official(response, count)
    item = Item("x", "?", truth="(B)", about={"choices": count, "subtask": "Jigsaw"})
    bench = find_bench("blink")
    judged, refused = bench.judge(item, response), bench.judge(item, response, "strict")
    assert (judged.parsed, judged.right) == (official, official == "(B)")
    assert (refused.parsed, refused.right) == (strict, strict == "(B)")


PIECES = st.sampled_from(["(A)", "(B)", "(C)", "(E)", "A", "B", " ", "\n", "\n\n", ".", "so ", "\u00a0", "answer: "])


@given(st.one_of(st.text(max_size=30), st.lists(PIECES, max_size=10).map("".join)), st.integers(1, 5))
@settings(max_examples=60)
def test_any_answer_reads_as_the_official_script_reads_it(response: str, count: int) -> None:
    assert official_label(response, count) == plain_official(response, count)
    item = Item("x", "?", truth="(A)", about={"choices": count})
    strict = find_bench("blink").judge(item, response, "strict").parsed
    assert strict is None or strict in ["(A)", "(B)", "(C)", "(D)", "(E)"][:count]


# Files and prompts ---------------------------------------------------------------------------------------------------


def row(subtask: str, number: int, answer: str = "(A)", **changes: Any) -> dict[str, Any]:
    question = f"Which one, {number}?"
    return {
        "idx": f"val_{subtask}_{number}",
        "question": question,
        "sub_task": subtask,
        "image_1": png("red"),
        "image_2": png("blue") if number % 2 else None,
        "image_3": None,
        "image_4": None,
        "choices": ["the second image", "the third image"],
        "answer": answer,
        "prompt": f"{question}\nSelect from the following choices.\n(A) the second image\n(B) the third image",
        **changes,
    }


def write_all(folder: Path) -> Path:
    for subtask, count in (("Jigsaw", 3), ("Counting", 1)):
        for split in ("val", "test"):
            answers = {"val": "(B)", "test": "hidden"}
            rows = [row(subtask, number, answers[split]) for number in range(count)]
            write_parquet(folder / subtask / f"{split}-00000-of-00001.parquet", rows, IMAGES)
    return folder


def test_official_files_and_prompts(tmp_path: Path) -> None:
    items = [item for item in find_bench("blink").load(write_all(tmp_path)) if isinstance(item, Item)]
    assert [item.id for item in items] == ["val_Counting_0", "val_Jigsaw_0", "val_Jigsaw_1", "val_Jigsaw_2"]
    assert [item.group for item in items] == ["Counting", "Jigsaw", "Jigsaw", "Jigsaw"]
    assert {item.truth for item in items} == {"(B)"}
    assert items[2].prompt == row("Jigsaw", 1)["prompt"]
    assert [[colour_of(image) for image in item.images] for item in items[1:3]] == [
        [(255, 0, 0)],
        [(255, 0, 0), (0, 0, 255)],
    ]
    assert len(SUBTASKS) == 14


def test_subtasks_and_templates(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert [item.id for item in find_bench("blink", split="counting").load(tmp_path)] == ["val_Counting_0"]
    assert len(find_bench("blink", split="Jigsaw+Counting").load(tmp_path)) == 4
    with pytest.raises(InputError, match="no subtask of BLINK 'Chess'; they are Art_Style, Counting"):
        find_bench("blink", split="Chess").load(tmp_path)
    with pytest.raises(InputError, match=r"no question of BLINK to ask: .* has no IQ_Test"):
        find_bench("blink", split="IQ_Test").load(tmp_path)
    worded = find_bench("blink", template="{question} {options} {x}", split="Counting").load(tmp_path)[0]
    assert isinstance(worded, Item)
    assert worded.prompt == "Which one, 0? (A) the second image\n(B) the third image {x}"
    closing = find_bench("blink", template="{prompt}\nAnswer:", split="Counting").load(tmp_path)[0]
    assert isinstance(closing, Item)
    assert closing.prompt == row("Counting", 0)["prompt"] + "\nAnswer:"
    with pytest.raises(InputError, match="no place for the prompt"):
        find_bench("blink", template="Well?").load(tmp_path)


def test_one_file_of_several_subtasks(tmp_path: Path) -> None:
    rows = [row("Jigsaw", 0), row("Art_Style", 0, sub_task="art style"), row("Jigsaw", 1, sub_task=None)]
    items = find_bench("blink").load(write_parquet(tmp_path / "some.parquet", rows, IMAGES))
    assert [item.group for item in items if isinstance(item, Item)] == ["Art_Style", "Jigsaw", "Jigsaw"]


def test_bad_rows_are_told_and_the_others_stay(tmp_path: Path) -> None:
    rows = [
        row("Jigsaw", 0),
        row("Jigsaw", 1, answer="hidden"),
        row("Jigsaw", 2, answer="(C)"),
        row("Jigsaw", 3, choices=[]),
        row("Jigsaw", 4, image_1=None),
        row("Jigsaw", 5, prompt="", question=" "),
        row("Jigsaw", 0),
        row("Jigsaw", 7, prompt=None, answer="B"),
    ]
    path = write_parquet(tmp_path / "Jigsaw" / "val-00000-of-00001.parquet", rows, IMAGES)
    items = find_bench("blink").load(path)
    said = [None, "only the val split has answers", "no letter of its 2", "no list of at least one", "no image",
            "neither a prompt nor a question", "stands before it too", None]  # fmt: skip
    for item, reason in zip(items, said, strict=True):
        assert isinstance(item, InvalidItem) == (reason is not None)
        assert reason is None or (isinstance(item, InvalidItem) and reason in item.error)
    last = items[-1]
    assert isinstance(last, Item)
    assert (last.truth, last.prompt) == ("(B)", row("Jigsaw", 7)["prompt"])
    write_parquet(path, [row("Jigsaw", 0, answer="hidden")], IMAGES)
    with pytest.raises(InputError, match="the answer is hidden: only the val split has answers"):
        find_bench("blink").load(path)


def test_the_total_is_the_mean_of_subtasks_and_what_the_bootstrap_redraws(tmp_path: Path) -> None:
    bench = find_bench("blink")
    items = [item for item in bench.load(write_all(tmp_path)) if isinstance(item, Item)]
    said = ["(B)", "(B)", "what?", "(A)"]
    judgements = {item.id: bench.judge(item, response) for item, response in zip(items, said, strict=True)}
    document = bench.score(items, judgements)
    assert document["subtasks"] == {"Counting": {"n": 1, "accuracy": 1.0}, "Jigsaw": {"n": 3, "accuracy": 1 / 3}}
    assert document["accuracy"] == pytest.approx((1 + 1 / 3) / 2)
    assert (document["n"], document["unparsed"], document["missing"], document["chance"]) == (4, 1, 0, 0.5)
    totals: dict[str, Any] = {}
    for unit in bench.units(items, judgements):
        totals[unit.stratum] = totals.get(unit.stratum, 0) + np.array(unit.sums)
    assert bench.headline_value(totals) == pytest.approx(document["accuracy"])
    twice = {name: np.stack([sums, sums]) for name, sums in totals.items()}
    assert bench.headline_value(twice).shape == (2,)
    assert bench.score(items, {})["accuracy"] is None


def test_official_outputs(tmp_path: Path) -> None:
    bench = find_bench("blink")
    saved = [
        {"idx": "val_Art_Style_1", "answer": "(A)", "full_prediction": "Well, (B) it is", "prediction": "(B)"},
        {"idx": "val_Art_Style_2", "answer": "(B)", "full_prediction": "Hm.", "prediction": "(B)"},
    ]
    hidden = [{"idx": "test_Art_Style_1", "answer": "hidden", "full_prediction": "", "prediction": "(A)"}]
    (tmp_path / "Art Style.json").write_text(json.dumps({"val": saved, "test": hidden}))
    for path in (tmp_path, tmp_path / "Art Style.json"):
        assert bench.read_answers(path) == saved
    items = bench.items_of_answers(saved)
    assert items is not None
    assert [(item.id, item.group, item.truth) for item in items] == [
        ("val_Art_Style_1", "Art_Style", "(A)"),
        ("val_Art_Style_2", "Art_Style", "(B)"),
    ]
    judged = {item.id: bench.judge(item, line["full_prediction"]) for item, line in zip(items, saved, strict=True)}
    assert [judgement.parsed for judgement in judged.values()] == ["(B)", None]
    assert bench.score(items, judged)["chance"] is None
    (tmp_path / "all.json").write_text(json.dumps({"val_Counting_1": "(A)", "test_Counting_1": "(B)"}))
    assert bench.read_answers(tmp_path / "all.json") == [{"idx": "val_Counting_1", "response": "(A)"}]
    (tmp_path / "lines.jsonl").write_text('{"idx": "val_Counting_1", "response": "A"}\n' * 2)
    assert bench.read_answers(tmp_path / "lines.jsonl") is None
    assert bench.items_of_answers([{"idx": "val_Counting_1", "answer": "(A)"}]) is None
    assert bench.items_of_answers([]) is None
