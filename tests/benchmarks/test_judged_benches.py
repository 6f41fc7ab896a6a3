"""MMHal-Bench and Object HalBench: the files of their scripts' judges, scored as those scripts score them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.benchmarks import find_bench
from sightline.benchmarks.mmhal import rating_of
from sightline.errors import InputError


def reviews(path: Path, ratings: list[str]) -> Path:
    path.write_text(json.dumps([{"choices": [{"message": {"content": text}}]} for text in ratings]))
    return path


def test_reviews_of_mmhal_as_the_script_counts_them(tmp_path: Path) -> None:
    ratings = [f"It is so.\n\nRating: {number % 7}" for number in range(94)] + ["no rating", "Rating: 1, rating: 2"]
    numbers = [number % 7 for number in range(94)] + [0, 0]
    found = sl.score("mmhal", reviews(tmp_path / "a.json", ratings)).to_dict()
    assert found["score"] == pytest.approx(sum(numbers) / 96)
    assert found["hallucination_rate"] == pytest.approx(sum(number < 3 for number in numbers) / 96)
    informative = [number - 3 if number >= 3 else number for number in numbers]
    assert found["informativeness"] == pytest.approx(sum(informative) / 96 / 3)
    by_type = [numbers[place::8] for place in range(8)]
    assert [part["score"] for part in found["subtasks"].values()] == pytest.approx([sum(of) / 12 for of in by_type])
    assert found["unparsed"] == 2
    strict = sl.score("mmhal", tmp_path / "a.json", parser="strict").to_dict()
    assert strict["score"] == pytest.approx(sum(numbers) / 94)
    better = [text.replace("Rating: 0", "Rating: 6") for text in ratings]
    (paired,) = sl.compare("mmhal", tmp_path / "a.json", reviews(tmp_path / "b.json", better)).paired
    assert paired["delta"] == pytest.approx(14 * 6 / 96)
    assert paired["ci95"][0] > 0
    assert rating_of("rating: 4") == 4


def test_mmhals_answers_have_no_figure_before_they_are_rated(tmp_path: Path) -> None:
    questions = [
        {"question_type": "attribute", "image_src": f"https://x/{n}.png", "question": f"What is {n}?", "gt_answer": "?"}
        for n in range(3)
    ]
    (tmp_path / "response_template.json").write_text(json.dumps(questions))
    bench = find_bench("mmhal")
    items: list[Any] = bench.load(tmp_path)
    assert [item.prompt for item in items] == ["What is 0?", "What is 1?", "What is 2?"]
    document = bench.score(items, {item.id: bench.judge(item, "It is red.") for item in items})
    assert (document["score"], document["unparsed"]) == (None, 3)
    with pytest.raises(InputError, match="needs its files"):
        bench.load()


def sentence(image: int, named: list[str], wrong: list[str]) -> dict[str, Any]:
    return {
        "image_id": image, "caption": "a b c", "mscoco_gt_words": ["dog", "cat"],
        "mscoco_generated_words": [["x", name] for name in named],
        "mscoco_hallucinated_words": [["word", ["x", name]] for name in wrong],
    }  # fmt: skip


def test_object_halbench_from_its_scripts_output(tmp_path: Path) -> None:
    sentences = [sentence(1, ["dog", "car"], ["car"]), sentence(2, ["dog", "cat"], []), sentence(3, [], [])]
    path = tmp_path / "hall_a.json"
    path.write_text(json.dumps({"sentences": sentences, "overall_metrics": {}}))
    found = sl.score("object-halbench", path).to_dict()
    assert found["response_hallucination"] == 0.5  # of the two that name an object
    assert found["chair_s"] == pytest.approx(1 / 3)
    assert found["object_hallucination"] == 0.25
    assert found["recall"] == 0.5
    assert found["object_f1"] == pytest.approx(2 * 0.75 * 0.5 / 1.25)
    other = tmp_path / "hall_b.json"
    other.write_text(json.dumps({"sentences": [sentence(n, ["dog"], []) for n in (1, 2, 3)]}))
    (paired,) = sl.compare("object-halbench", path, other).paired
    assert paired["delta"] == -0.5
    sentences[0].pop("caption")
    path.write_text(json.dumps({"sentences": sentences}))
    with pytest.raises(InputError, match="sentence 1: 'caption'"):
        sl.score("object-halbench", path)
    with pytest.raises(InputError, match="no questions to ask"):
        find_bench("object-halbench").load()
