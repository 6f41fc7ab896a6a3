"""POPE: its files, and its score beside a plain reading of evaluate.py."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.awkward import AWKWARD, answers
from sightline.benchmarks import InvalidItem, Item, find_bench
from sightline.errors import InputError

POPE = find_bench("pope")


def plain_answer(text: str) -> str:
    """evaluate.py's reading of an answer, step by step."""
    stop = text.find(".")
    sentence = text if stop == -1 else text[:stop]
    words = "".join(letter for letter in sentence if letter != ",").split(" ")
    return "no" if words.count("No") + words.count("not") + words.count("no") else "yes"


def plain_score(pairs: list[tuple[str, str]]) -> dict[str, float]:
    """evaluate.py's figures of (label, answer); ZeroDivisionError where it has that."""
    counts = {(said, true): 0 for said in ("yes", "no") for true in ("yes", "no")}
    for label, answer in pairs:
        counts[plain_answer(answer), label] += 1
    precision = counts["yes", "yes"] / (counts["yes", "yes"] + counts["yes", "no"])
    recall = counts["yes", "yes"] / (counts["yes", "yes"] + counts["no", "yes"])
    return {
        "accuracy": (counts["yes", "yes"] + counts["no", "no"]) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall),
        "yes_ratio": (counts["yes", "yes"] + counts["yes", "no"]) / len(pairs),
    }


def items_of(labels: list[str], group: str = "random") -> list[Item]:
    return [Item(f"{group}/{number}", "?", truth=label, group=group) for number, label in enumerate(labels)]


def scored(pairs: list[tuple[str, str]], parser: Any = "official") -> dict[str, Any]:
    items = items_of([label for label, _ in pairs])
    judged = {
        item.id: POPE.judge(item, answer, parser) for item, (_, answer) in zip(items, pairs, strict=True)
    }  # fmt: skip
    return POPE.score(items, judged)


@pytest.mark.parametrize("answer", AWKWARD)
def test_an_awkward_answer_counts_as_officially(answer: str) -> None:
    for truth in ("yes", "no"):
        judgement = POPE.judge(Item("1", "?", truth=truth), answer)
        assert judgement.parsed == plain_answer(answer)
        assert judgement.right == (plain_answer(answer) == truth)


@given(st.lists(st.tuples(st.sampled_from(["yes", "no"]), answers), min_size=1, max_size=30))
def test_figures_are_the_official_ones(pairs: list[tuple[str, str]]) -> None:
    ours = scored(pairs)
    try:
        official = plain_score(pairs)
    except ZeroDivisionError:
        assert ours["f1"] in (0.0, None)
        return
    assert {name: ours[name] for name in official} == official
    assert ours["splits"]["random"] == {name: ours[name] for name in ours["splits"]["random"]}


def test_unparsed_answers_are_counted_and_scored() -> None:
    pairs = [("yes", "maybe"), ("yes", "NO!"), ("no", "I don't see it"), ("no", "no"), ("yes", "yes"), ("no", "")]
    official, strict = scored(pairs), scored(pairs, "strict")
    assert (official["unparsed"], official["accuracy"], official["yes_ratio"]) == (3, 4 / 6, 5 / 6)
    assert (strict["unparsed"], strict["accuracy"], strict["yes_ratio"]) == (3, 2 / 6, 1 / 6)
    assert (strict["precision"], strict["recall"]) == (1.0, 1 / 3)


def test_figures_of_nothing_are_none() -> None:
    empty = POPE.score(items_of(["yes"]), {})
    assert (empty["n"], empty["accuracy"], empty["f1"], empty["mean_f1"], empty["splits"]) == (0, None, None, None, {})
    never_yes = scored([("yes", "no"), ("no", "no")])
    assert (never_yes["precision"], never_yes["recall"], never_yes["f1"]) == (None, 0.0, 0.0)
    no_positives = scored([("no", "no")])
    assert (no_positives["recall"], no_positives["f1"]) == (None, None)


def test_mean_f1_is_over_splits() -> None:
    items = items_of(["yes", "no"], "random") + items_of(["yes", "no", "no"], "popular")
    judged = {item.id: POPE.judge(item, "yes") for item in items}
    document = POPE.score(items, judged)
    assert document["mean_f1"] == pytest.approx((2 / 3 + 0.5) / 2)
    assert document["f1"] == pytest.approx(4 / 7)
    assert list(document["splits"]) == ["random", "popular"]


# Files --------------------------------------------------------------------------------------------------------------


def line(number: int, **fields: Any) -> str:
    record = {"question_id": number, "image": "a.jpg", "text": f"Is there a {number}?", "label": "no"}
    return json.dumps({**record, **fields}) + "\n"


def write(folder: Path, name: str, *lines: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(lines))
    return path


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def test_official_folder(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "coco"
    for split in ("adversarial", "popular", "random"):
        write(folder, f"coco_pope_{split}.json", line(1, label="yes"), line(2))
    write(folder, "coco_ground_truth_objects.json", '{"image": "a.jpg", "objects": ["dog"]}\n')
    image = picture(tmp_path / "output" / "val2014" / "a.jpg")
    items = POPE.load(folder)
    assert [item.id for item in items] == [
        f"{split}/{number}" for split in ("random", "popular", "adversarial") for number in (1, 2)
    ]
    first = items[0]
    assert isinstance(first, Item)
    assert (first.truth, first.group, first.prompt) == ("yes", "random", "Is there a 1?")
    assert [Path(path).resolve() for path in first.images] == [image.resolve()]
    assert POPE.sample(first).load_images()[0].size == (8, 8)
    chosen = find_bench("pope", split="popular+random", template="{question} Yes or no?").load(folder)
    assert [item.id for item in chosen] == ["popular/1", "popular/2", "random/1", "random/2"]
    assert isinstance(chosen[0], Item)
    assert chosen[0].prompt == "Is there a 1? Yes or no?"
    with pytest.raises(InputError, match="no split 'easy'; it has random, popular, adversarial"):
        find_bench("pope", split="easy").load(folder)
    with pytest.raises(InputError, match="no place for the question"):
        find_bench("pope", template="Yes or no?").load(folder)


def test_files_of_several_sources_keep_their_names(tmp_path: Path) -> None:
    write(tmp_path, "aokvqa_pope_seem_random.json", line(1))
    write(tmp_path, "gqa_pope_seem_random.json", line(1))
    assert [item.id for item in POPE.truths(tmp_path)] == ["aokvqa_pope_seem_random/1", "gqa_pope_seem_random/1"]
    alone = write(tmp_path / "own", "mine.jsonl", line(1, image="pictures/b.png"))
    image = picture(tmp_path / "own" / "pictures" / "b.png")
    (item,) = POPE.load(alone)
    assert isinstance(item, Item)
    assert (item.id, item.images) == ("mine/1", (image,))


def test_lines_that_are_no_question_are_told_one_by_one(tmp_path: Path) -> None:
    path = write(tmp_path, "coco_pope_random.json", "\ufeff", line(1), line(2, label="maybe"), "{torn\n", line(1),
                 line(4, text=""), line(5, label="Yes"), "[1]\n", "\n")  # fmt: skip
    items = POPE.truths(path)
    assert [item.id for item in items if isinstance(item, Item)] == ["random/1", "random/5"]
    errors = [item.error for item in items if isinstance(item, InvalidItem)]
    assert len(errors) == 5
    assert "line 2: the label 'maybe' is neither yes nor no" in errors[0]
    assert "line 3: not valid JSON" in errors[1]
    assert "line 4: the question_id 1 stands on an earlier line too" in errors[2]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: give a label file"):
        POPE.load(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no POPE file: .* coco_pope_random\.json"):
        POPE.load(tmp_path)
    path = write(tmp_path, "coco_pope_random.json", line(1))
    with pytest.raises(InputError, match=r"the first is a\.jpg\) are not found: .* val2014"):
        POPE.load(path)
    assert len(POPE.truths(path)) == 1
    with pytest.raises(InputError, match="holds no POPE question"):
        POPE.truths(write(tmp_path, "bad.json", '{"text": "?", "label": 3}\n'))


def test_parquet_files_of_the_hub(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    encoded = io.BytesIO()
    Image.new("RGB", (9, 7)).save(encoded, "JPEG")
    rows = [
        {"id": str(number), "question_id": str(1 + number % 2), "question": "Is there a dog?", "answer": "no",
         "image_source": "COCO_1", "image": {"bytes": encoded.getvalue(), "path": None}, "category": category}
        for number, category in enumerate(["adversarial", "adversarial", "popular", "random"])
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    pandas.DataFrame(rows).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    items = POPE.load(tmp_path)
    assert [item.id for item in items] == ["random/2", "popular/1", "adversarial/1", "adversarial/2"]
    assert isinstance(items[0], Item)
    assert POPE.sample(items[0]).load_images()[0].size == (9, 7)
    assert [item.id for item in find_bench("pope", split="popular").load(tmp_path)] == ["popular/1"]
