"""MMMU-Pro: official files, official words, and the official reading of answers, letter by letter."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tables import colour_of, png, write_parquet
from sightline.benchmarks import InvalidItem, Item, find_bench
from sightline.benchmarks.answers import score_answers
from sightline.benchmarks.mmmu_pro_rules import DISCIPLINES, INSTRUCTIONS, official_letter
from sightline.data.messages import IMAGE_MARKER
from sightline.errors import InputError

PICTURES = tuple(f"image_{number}" for number in range(1, 8))


def plain_official(response: Any, options: list[str]) -> str | None:
    """The steps of the official parse_multi_choice_response, one after the other; None where it draws a letter."""
    if isinstance(response, dict):
        response = ""
    all_choices = [chr(65 + number) for number in range(len(options))]
    last = response.rfind("Answer:")
    if last != -1:
        behind = response[last + 7 :].strip()
        matching = [choice for choice in all_choices if choice in behind]
        if len(matching) == 1:
            return matching[0]
    for char in [",", ".", "!", "?", ";", ":", "'"]:
        response = response.strip(char)
    response = " " + response + " "
    is_letter, has_bracket, found = True, False, []
    for choice in all_choices:
        if f"({choice})" in response:
            found.append(choice)
            has_bracket = True
    if not found:
        for choice in all_choices:
            if f"{choice} " in response:
                found.append(choice)
    if not found:
        for choice in all_choices:
            if f"{choice}." in response:
                found.append(choice)
    if not found and len(response.split()) > 5:
        for choice, option in zip(all_choices, options, strict=True):
            if option.lower() in response.lower():
                found.append(choice)
                is_letter = False
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    starts = []
    for choice in found:
        if not is_letter:
            starts.append(response.lower().rfind(options[all_choices.index(choice)].lower()))
        elif has_bracket:
            starts.append(response.rfind(f"({choice})"))
        else:
            starts.append(response.rfind(f" {choice} "))
    best = 0
    for place, start in enumerate(starts):
        if start > starts[best]:
            best = place
    return found[best]


TREES = ["an oak", "A pine", "birch", "", "an oak tree"]

AWKWARD = [  # response, what the official parser reads with TREES, what the strict one does
    ("B", "B", "B"),
    (" B ", "B", "B"),
    ("(B)", "B", "B"),
    ("B.", "B", "B"),
    ("B. A pine", "A", "B"),  # official: "A " is found before "B." is looked for
    ("b", None, None),
    ("", None, None),
    ("Answer: C", "C", "C"),
    ("Answer: (C).", "C", "C"),
    ("**Answer:** C", "C", "C"),
    ("ANSWER: C", "C", "C"),
    ("answer: D", "D", "D"),
    ("Answer: A\nAnswer: D", "D", "D"),
    ("Answer: A or B", "B", None),
    ("Answer: BIRCH", None, None),
    ("Answer:", None, None),
    ("Answer: F", None, None),
    ("(A) is wrong, so (C)", "C", None),
    ("(C) or (A)", "A", None),
    ("I think it is an FDA matter", "A", None),
    ("A dog", "A", None),
    ("E D C", "C", None),
    ("It could be C. or D. maybe", "C", None),
    ("I really do believe that it is an oak tree", None, None),
    ("i really do believe that it is an oak tree", "E", None),
    ("i would say birch", None, None),
    ("The answer is C.", "C", "C"),
    ("The answer is A dog.", "A", None),
    ("B\0", None, None),
    ("!?B?!", "B", None),
    ("'B'", "B", "B"),
    (",.B,.", None, None),
    ("\u202eB\u202c", None, None),
    ("🤔 (D) 🎉", "D", "D"),
    ("ب (E)", "E", "E"),
    ("B " * 40_000, "B", None),
]


@pytest.mark.parametrize(("response", "official", "strict"), AWKWARD)
def test_awkward_answers(response: str, official: str | None, strict: str | None) -> None:
    options = TREES if "really" in response or "birch" in response else [option or "an elm" for option in TREES]
    expected = plain_official(response, options)
    assert official_letter(response, options) == expected
    bench = find_bench("mmmu-pro")
    item = Item("x", "?", truth="C", about={"id": "x", "options": options})
    judged, refused = bench.judge(item, response), bench.judge(item, response, "strict")
    assert judged.parsed == expected
    assert refused.parsed == strict
    assert refused.right == (strict == "C")
    assert judged.right == ((expected or judged.detail["fallback"]) == "C")
    if options is not TREES:
        assert official == expected


PIECES = st.sampled_from(
    [
        "Answer:",
        "answer: ",
        "(A)",
        "(B)",
        "(J)",
        "A",
        "B ",
        "J.",
        " C ",
        "I",
        "\n",
        " ",
        "'",
        ".",
        "oak",
        "an oak",
        ":",
        "é",
    ]
)


@given(
    st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join)),
    st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["an oak", "oak", "B"])), min_size=1, max_size=10),
)
@settings(max_examples=60)
def test_any_answer_reads_as_the_official_script_reads_it(response: str, options: list[str]) -> None:
    assert official_letter(response, options) == plain_official(response, options)
    item = Item("x", "?", truth="A", about={"id": "x", "options": options})
    bench = find_bench("mmmu-pro")
    strict = bench.judge(item, response, "strict")
    assert strict.parsed is None or strict.parsed in "ABCDEFGHIJ"[: len(options)]


def test_the_letter_drawn_for_an_unparsed_answer_is_the_items_own() -> None:
    bench = find_bench("mmmu-pro")
    items = [Item(f"{n}", "?", truth="A", about={"id": f"{n}", "options": ["x", "y", "z"]}) for n in range(300)]
    first = [bench.judge(item, "no idea") for item in items]
    state = random.getstate()
    assert first == [bench.judge(item, "…") for item in items]
    assert random.getstate() == state
    assert {judgement.parsed for judgement in first} == {None}
    assert {judgement.detail["fallback"] for judgement in first} == {"A", "B", "C"}
    assert 70 < sum(judgement.right for judgement in first) < 130
    assert not any(bench.judge(item, "no idea", "strict").right for item in items)


# Files and prompts ---------------------------------------------------------------------------------------------------


def standard_row(number: int, question: str, options: list[str], answer: str, **images: bytes) -> dict[str, Any]:
    return {
        "id": f"test_Art_Theory_{number}",
        "question": question,
        "options": repr(options),
        "explanation": "?",
        "answer": answer,
        "subject": "Art_Theory" if number % 2 else "Math",
        **{name: images.get(name) for name in PICTURES},
    }


TEN = [f"choice {number}" for number in range(10)]
SWAPPED = "Which of <image 1> and <image 3>?"
THREE = {"image_1": png("red"), "image_2": png("blue"), "image_3": png("white")}
STANDARD = [
    standard_row(1, SWAPPED, ["<image 2>", "<image 1>", "none"], "B", **THREE),
    standard_row(2, "No picture named, {options}", TEN, "J", image_1=png("red")),
    standard_row(3, "Say <image>: <image 1>", ["yes", "no"], "A", image_1=png("blue")),
]
VISION = [
    {"id": f"test_Music_{number}", "image": png("red"), "options": str(TEN), "answer": "C", "subject": "Music"}
    for number in range(3)
]


def write_all(folder: Path) -> Path:
    write_parquet(folder / "standard (10 options)" / "test-00000-of-00001.parquet", STANDARD, PICTURES, group=2)
    write_parquet(folder / "standard (4 options)" / "test-00000-of-00001.parquet", STANDARD[2:], PICTURES)
    write_parquet(folder / "vision" / "test-00000-of-00001.parquet", VISION, ["image"])
    return folder


def test_standard_prompts_put_each_image_where_it_is_named(tmp_path: Path) -> None:
    first, second, third = find_bench("mmmu-pro", split="standard-10").load(write_all(tmp_path))
    assert isinstance(first, Item) and isinstance(second, Item) and isinstance(third, Item)  # noqa: PT018
    assert first.prompt == (
        "Which of <image> and <image>?\nA. <image>\nB. <image>\nC. none\n"
        "Answer with the option letter from the given choices directly."
    )
    assert [colour_of(image) for image in first.images] == [(255, 0, 0), (255, 255, 255), (0, 0, 255), (255, 0, 0)]
    assert len(find_bench("mmmu-pro").sample(first).pieces()) == 5
    assert (first.id, first.truth, first.group) == ("test_Art_Theory_1", "B", "Art_Theory")
    assert "{options}\nA. choice 0\n" in second.prompt
    assert second.prompt.count("\n") == 11
    assert len(second.images) == 1
    assert IMAGE_MARKER not in second.prompt
    assert third.prompt.startswith("Say < image >: <image>\nA. yes")


def test_vision_is_the_default_and_its_prompt_the_official_one(tmp_path: Path) -> None:
    items = find_bench("mmmu-pro").load(write_all(tmp_path))
    assert [item.id for item in items] == ["test_Music_0", "test_Music_1", "test_Music_2"]
    (item, *_) = items
    assert isinstance(item, Item)
    assert item.prompt == INSTRUCTIONS["direct", "vision"]
    assert item.prompt.startswith("Answer with the option letter") and item.prompt.endswith("one of options.")  # noqa: PT018
    assert [colour_of(image) for image in item.images] == [(255, 0, 0)]
    alone = find_bench("mmmu-pro").load(tmp_path / "standard (4 options)" / "test-00000-of-00001.parquet")
    assert [item.id for item in alone] == ["test_Art_Theory_3"]


def test_modes_and_templates(tmp_path: Path) -> None:
    write_all(tmp_path)
    cot = find_bench("mmmu-pro", mode="cot", split="standard-10")
    assert cot.new_tokens > 500
    assert find_bench("mmmu-pro").new_tokens == 16
    item = cot.load(tmp_path)[2]
    assert isinstance(item, Item)
    assert item.prompt.endswith("Think step by step before answering.")
    worded = find_bench("mmmu-pro", template="Q: {question}|{options}|{other}", split="standard-10").load(tmp_path)[2]
    assert isinstance(worded, Item)
    assert worded.prompt == "Q: Say < image >: <image>|A. yes\nB. no|{other}"
    with pytest.raises(InputError, match="no place for the question"):
        find_bench("mmmu-pro", template="Well?", split="standard-10").load(tmp_path)
    with pytest.raises(InputError, match="no mode 'fast'"):
        find_bench("mmmu-pro", mode="fast")
    with pytest.raises(InputError, match="no configuration of MMMU-Pro 'standard-5'; they are vision, standard-10"):
        find_bench("mmmu-pro", split="standard-5").load(tmp_path)


def test_several_configurations_keep_their_questions_apart(tmp_path: Path) -> None:
    bench = find_bench("mmmu-pro", split="standard (4 options)+Standard-10+vision")
    items = [item for item in bench.load(write_all(tmp_path)) if isinstance(item, Item)]
    assert [item.id.split("/")[0] for item in items] == ["vision"] * 3 + ["standard-10"] * 3 + ["standard-4"]
    judgements = {item.id: bench.judge(item, str(item.truth)) for item in items[:-1]}
    judgements[items[0].id] = bench.judge(items[0], "", "strict")
    document = bench.score(items, judgements)
    assert document["configs"] == {
        "standard (10 options)": {"n": 3, "accuracy": 1.0},
        "vision": {"n": 3, "accuracy": 2 / 3},
    }
    assert (document["n"], document["unparsed"], document["missing"]) == (6, 1, 1)
    assert document["subtasks"]["Music"] == {"n": 3, "accuracy": 2 / 3}
    assert document["disciplines"]["Art and Design"] == {"n": 5, "accuracy": 4 / 5}
    assert document["chance"] == pytest.approx((3 * 0.1 + 1 / 3 + 0.1 + 0.5) / 6)
    assert document["accuracy"] == pytest.approx(5 / 6)
    units = bench.units(items, judgements)
    assert {unit.stratum for unit in units} == {"vision/Music", "standard-10/Art_Theory", "standard-10/Math"}
    assert units[0].key == "test_Music_0"  # the same question in another configuration is the same draw
    total = {"all": np.sum([unit.sums for unit in units], axis=0)}
    assert bench.headline_value(total) == pytest.approx(document["accuracy"])
    with pytest.raises(InputError, match="has no configuration 'vision' of MMMU-Pro; it has standard"):
        find_bench("mmmu-pro", split="vision").load(tmp_path / "standard (10 options)")


def test_bad_rows_are_told_and_the_others_stay(tmp_path: Path) -> None:
    bad = [
        {"options": "[1, 2"},
        {"options": "__import__('os').getcwd()"},
        {"options": "[]"},
        {"options": "['a', 'b']", "answer": "C"},
        {"answer": None},
        {"question": "<image 2>?"},
        {"id": "test_Art_Theory_1"},
        {"options": "[1, 2.5, True]", "id": "numbers"},
    ]
    rows = [STANDARD[0]] + [{**STANDARD[2], "id": f"bad_{n}", **change} for n, change in enumerate(bad)]
    path = write_parquet(tmp_path / "standard-10.parquet", rows, PICTURES)
    items = find_bench("mmmu-pro", split="standard-10").load(path)
    good, *others, numbers = items
    assert isinstance(good, Item)
    assert isinstance(numbers, Item)
    assert numbers.about["options"] == ["1", "2.5", "True"]
    said = ["no list of literals", "no list of literals", "no list of at least one", "no letter of its 2 options",
            "the answer '' is no letter", "names image_2, and there is none", "stands before it too"]  # fmt: skip
    assert len({item.id for item in items}) == len(items)
    for other, reason in zip(others, said, strict=True):
        assert isinstance(other, InvalidItem)
        assert reason in other.error
        assert other.error.startswith("standard-10.parquet, row")
    assert all(isinstance(item, Item) for item in find_bench("mmmu-pro").truths(path)[6::2])
    write_parquet(path, [{**STANDARD[2], "options": "no"}], PICTURES)
    with pytest.raises(InputError, match=r"no question of MMMU-Pro to ask: .* no list of literals"):
        find_bench("mmmu-pro").load(path)


def test_official_output_files_carry_their_questions() -> None:
    bench = find_bench("mmmu-pro")
    lines = [
        {"id": "test_History_1", "question": "<image 1>?", "options": str(TEN), "answer": "B", "subject": "History",
         "response": "B. choice 1", "pred_indexs": "B", "if_right": True},
        {"id": "validation_Art_Theory_9", "options": ["x", "y"], "answer": "A", "response": "y"},
        {"id": "validation_Art_Theory_9", "options": ["x", "y"], "answer": "A", "response": "A"},
    ]  # fmt: skip
    items = bench.items_of_answers(json.loads(json.dumps(lines)))
    assert items is not None
    assert [item.id for item in items] == ["test_History_1", "validation_Art_Theory_9", "validation_Art_Theory_9/2"]
    assert [item.group for item in items] == ["History", "Art_Theory", "Art_Theory"]
    assert [bench.judge(item, str(line["response"])).parsed for item, line in zip(items, lines, strict=True)] == [
        "B",
        None,
        "A",
    ]
    assert bench.items_of_answers([{"id": "x", "response": "A"}]) is None
    with pytest.raises(InputError, match=r'Line 1 of the answers holds a question of MMMU-Pro, and no "response"'):
        bench.items_of_answers([{"id": "x", "options": "['a']", "answer": "A"}])
    with pytest.raises(InputError, match=r"Line 1 of the answers: .*no list of literals"):
        bench.items_of_answers([{"id": "x", "options": "[", "answer": "A", "response": ""}])


def test_failed_requests_in_official_output_are_empty_answers(tmp_path: Path) -> None:
    line = {"id": "x", "options": "['a', 'b']", "answer": "A"}
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({**line, "response": said}) + "\n" for said in ({"error": "A B"}, "B")))
    read = find_bench("mmmu-pro").read_answers(path)
    assert read is not None
    assert [record["response"] for record in read] == ["", "B"]
    path.write_text(json.dumps({**line, "response": "B"}))
    assert find_bench("mmmu-pro").read_answers(path) is None
    assert find_bench("mmmu-pro").read_answers(tmp_path) is None


def test_thirty_subjects_in_six_disciplines() -> None:
    assert len(DISCIPLINES) == 6
    assert sum(len(subjects.split()) for subjects in DISCIPLINES.values()) == 30


def test_the_released_question_of_one_option_stays_and_is_wrong(tmp_path: Path) -> None:
    """validation_Accounting_29: all options are within the first, and B is right; evaluate.py counts it."""
    rows = [
        {"id": "validation_Accounting_29", "options": "[['1', '2', '3']]", "answer": "B", "response": "B"},
        {"id": "validation_Math_1", "options": "['1', '2']", "answer": "A", "response": "Answer: A"},
    ]
    path = tmp_path / "gpt-4o.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = score_answers(find_bench("mmmu-pro"), path)
    document = found.document
    assert (document["n"], document["accuracy"]) == (2, 0.5)
    assert (document["odd"], document["accuracy_without_odd"]) == (1, 1.0)
    assert any("validation_Accounting_29, B of 1" in note for note in found.notes)
