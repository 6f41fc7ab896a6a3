"""MME: the release and eval_tool's folder, and its score beside a plain reading of calculation.py."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.awkward import AWKWARD, answers
from sightline.benchmarks import InvalidItem, Item, find_bench
from sightline.benchmarks.answers import score_answers
from sightline.benchmarks.mme import COGNITION, PERCEPTION
from sightline.errors import InputError

MME = find_bench("mme")


def plain_answer(text: str) -> str:
    """calculation.py's reading of an answer."""
    text = text.lower()
    if text == "yes" or text == "no":
        return text
    for word in ("yes", "no"):
        if text[:4].find(word) >= 0:
            return word
    return "other"


def plain_scores(folder: Path) -> dict[str, float]:
    """calculation.py's scores of a folder by subtask, and its two sums; it demands four columns and line pairs."""
    scores = {}
    for part, names in (("perception", PERCEPTION), ("cognition", COGNITION)):
        scores[part] = 0.0
        for name in names:
            if not (folder / f"{name}.txt").exists():
                continue
            with (folder / f"{name}.txt").open(encoding="utf-8") as file:
                lines = file.readlines()
            right = []
            for line in lines:
                _, _, truth, response = line.split("\t")
                right.append(truth.lower() == plain_answer(response))
            both = [first and second for first, second in zip(right[::2], right[1::2], strict=True)]
            scores[name] = sum(right) / len(right) * 100 + sum(both) / len(both) * 100
            scores[part] += scores[name]
    return scores


def eval_tool(folder: Path, given: dict[str, list[tuple[str, str]]]) -> Path:
    """eval_tool's folder of (truth, response) by subtask."""
    folder.mkdir(exist_ok=True)
    for name, pairs in given.items():
        rows = [f"{place // 2}.jpg\tIs it {place}?\t{truth}\t{words}\n" for place, (truth, words) in enumerate(pairs)]
        (folder / f"{name}.txt").write_text("".join(rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("answer", AWKWARD)
def test_an_awkward_answer_counts_as_officially(answer: str) -> None:
    for truth in ("yes", "no"):
        judgement = MME.judge(Item("1", "?", truth=truth), answer)
        assert (judgement.parsed or "other") == plain_answer(answer)
        assert judgement.right == (plain_answer(answer) == truth)


one_line = answers.filter(lambda text: not set(text) & set("\t\n\r") and text.isprintable())
questions = st.tuples(st.sampled_from(["Yes", "No", "yes", "NO"]), one_line)
images = st.lists(st.tuples(questions, questions), min_size=1, max_size=5).map(
    lambda pairs: [q for p in pairs for q in p]
)


@given(st.dictionaries(st.sampled_from(["existence", "OCR", "posters", *COGNITION]), images, min_size=1, max_size=3))
def test_scores_are_the_official_ones(tmp_path_factory: pytest.TempPathFactory, pairs: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("mme")
    official = plain_scores(eval_tool(folder, pairs))
    ours = score_answers(MME, folder).document
    assert {name: figures["score"] for name, figures in ours["subtasks"].items()} == {
        name: score for name, score in official.items() if name in ours["subtasks"]
    }
    assert (ours["perception"] or 0) == official["perception"]
    assert (ours["cognition"] or 0) == official["cognition"]
    assert ours["total"] == official["perception"] + official["cognition"]
    assert ours["n"] == sum(map(len, pairs.values()))
    assert (ours["missing"], ours["unknown"], ours["mixed_pairs"], ours["incomplete"]) == (0, 0, 0, 0)
    scored = score_answers(MME, folder)
    assert ours["unparsed"] == sum(judgement.parsed is None for judgement in scored.judgements.values())
    totals = {
        name: np.sum([u.sums for u in MME.units(scored.items, scored.judgements) if u.stratum == name], axis=0)
        for name in pairs
    }
    assert float(MME.headline_value(totals)) == pytest.approx(ours["total"])
    stacked = {name: np.stack([sums, sums]) for name, sums in totals.items()}
    assert MME.headline_value(stacked).shape == (2,)


def test_lines_that_the_official_script_stops_at(tmp_path: Path) -> None:
    text = (
        "\ufeffa.jpg\tIs it?\tYes\tyes\tand a tab\r\n"
        "a.jpg\tIsn't it?\tno\t\r\n"  # blank response
        "\n"
        "b.jpg\tIs it?\tYES\tYes\n"
        "b.jpg\tIsn't it?\tNo\n"  # no response at all
        "c.jpg\tIs it?\tYes\tYES"  # an image with one line
    )
    (tmp_path / "color.txt").write_bytes(text.encode())
    scored = score_answers(MME, tmp_path)
    assert list(scored.responses.values()) == ["yes\tand a tab", "", "Yes", "YES"]
    figures = scored.document["subtasks"]["color"]
    assert figures == {"acc": 3 / 4, "acc_plus": 0.0, "score": 75.0, "n": 4, "incomplete": 2, "unparsed": 1}
    assert (scored.document["missing"], scored.document["incomplete"]) == (1, 2)
    assert (scored.document["perception"], scored.document["cognition"], scored.document["total"]) == (75.0, None, 75.0)
    (tmp_path / "color.txt").write_text("a.jpg\tIs it?\n")
    with pytest.raises(InputError, match="line 1: image, question, truth and response are expected"):
        score_answers(MME, tmp_path)
    (tmp_path / "color.txt").write_text("a.jpg\tIs it?\tperhaps\tyes\n")
    with pytest.raises(InputError, match="the truth 'perhaps' is neither Yes nor No"):
        score_answers(MME, tmp_path)


def test_lines_out_of_order_are_paired_as_officially_and_told(tmp_path: Path) -> None:
    lines = [
        "a.jpg\tIs it?\tYes\tyes\n",
        "b.jpg\tIs it?\tYes\tyes\n",
        "a.jpg\tNot?\tNo\tyes\n",
        "b.jpg\tNot?\tNo\tyes\n",
    ]
    (tmp_path / "scene.txt").write_text("".join(lines))
    document = score_answers(MME, tmp_path).document
    assert document["perception"] == plain_scores(tmp_path)["perception"] == 100.0
    assert document["mixed_pairs"] == 2
    (tmp_path / "scene.txt").write_text("".join(sorted(lines)))
    assert score_answers(MME, tmp_path).document["perception"] == 50.0


# The release --------------------------------------------------------------------------------------------------------


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The release's two layouts: images beside their text, and in folders of their own."""
    root = tmp_path / "MME_Benchmark_release_version"
    for name, questions, pictures, suffix in (
        ("existence", "", "", "jpg"),
        ("artwork", "questions_answers_YN", "images", "jpg"),
        ("code_reasoning", "", "", "png"),
    ):
        folder = root / "MME_Benchmark" / name
        for part in (questions, pictures):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for image in ("0001", "0002"):
            Image.new("RGB", (6, 5)).save(folder / pictures / f"{image}.{suffix}")
            text = f"Is it {image}? Please answer yes or no.\tYes\nIs it not {image}? Please answer yes or no.\tNo\n"
            (folder / questions / f"{image}.txt").write_text(text)
    tool = root / "eval_tool" / "Your_Results"
    tool.mkdir(parents=True)
    (tool / "existence.txt").write_text("0001.jpg\tIs it 0001? Please answer yes or no.\tYes\n")
    return root


def test_release(release: Path) -> None:
    for path in (release.parent, release, release / "MME_Benchmark"):
        items = MME.load(path)
        assert [item.id for item in items] == [
            f"{name}/{image}/{question}"
            for name, suffix in (("existence", "jpg"), ("artwork", "jpg"), ("code_reasoning", "png"))
            for image in (f"0001.{suffix}", f"0002.{suffix}")
            for question in (1, 2)
        ]
        for item in items:
            assert isinstance(item, Item)
            assert MME.sample(item).load_images()[0].size == (6, 5)
    first, second = items[:2]
    assert isinstance(first, Item)
    assert isinstance(second, Item)
    assert (first.prompt, first.truth, first.group) == ("Is it 0001? Please answer yes or no.", "yes", "existence")
    assert first.about["pair"] == second.about["pair"]
    assert second.truth == "no"
    assert [item.id for item in find_bench("mme", split="artwork").load(release)] == [
        f"artwork/{image}.jpg/{question}" for image in ("0001", "0002") for question in (1, 2)
    ]
    assert len(MME.load(release / "MME_Benchmark" / "existence")) == 4
    with pytest.raises(InputError, match="MME has no subtask 'art'"):
        find_bench("mme", split="art").load(release)


def test_answers_to_the_release(release: Path, tmp_path: Path) -> None:
    """By eval_tool's lines in any order, by the hub's ids with the question, and by our own ids."""
    folder = tmp_path / "answers"
    folder.mkdir()
    asked = [item for item in MME.load(release) if isinstance(item, Item)]
    for name in ("existence", "artwork", "code_reasoning"):
        rows = [f"{i.about['image']}\t{i.prompt}\t{i.truth}\t{i.truth}\n" for i in asked if i.group == name]
        (folder / f"{name}.txt").write_text("".join(reversed(rows)))
    by_tool = score_answers(MME, folder, release).document
    assert (by_tool["total"], by_tool["missing"], by_tool["mixed_pairs"]) == (600.0, 0, 0)
    import json

    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"id": item.id, "response": item.truth}) for item in asked))
    assert score_answers(MME, path, release).document == by_tool
    lines = [
        {"question_id": f"{i.group}/{i.about['image']}", "prompt": f"{i.prompt}\nOne word.", "text": i.truth}
        for i in asked
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert score_answers(MME, path, release).document == by_tool
    lines = [
        {"category": i.group, "image": i.about["image"], "question": i.prompt, "answer": i.truth, "response": "Yes"}
        for i in asked
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    document = score_answers(MME, path).document
    assert (document["total"], document["n"]) == (150.0, 12)
    path.write_text('{"question_id": "existence/0001.jpg", "text": "yes"}\n')
    with pytest.raises(InputError, match="is that of 2 items"):
        score_answers(MME, path, release)


def test_half_answered_images_are_left_out_of_acc_plus(release: Path) -> None:
    items = [item for item in MME.load(release) if isinstance(item, Item)][:4]
    judged = {item.id: MME.judge(item, item.truth) for item in items[:3]}
    document = MME.score(items, judged)
    assert document["subtasks"]["existence"]["score"] == 200.0
    assert document["incomplete"] == 1
    one = {items[0].id: judged[items[0].id]}
    assert MME.score(items, one)["total"] is None
    assert MME.score(items, {}) == {
        "n": 0, "unparsed": 0, "total": None, "perception": None, "cognition": None, "incomplete": 0, "mixed_pairs": 0,
        "subtasks": {},
    }  # fmt: skip


def test_strict_refuses_what_is_cut_off_or_contradicts() -> None:
    item = Item("1", "?", truth="no")
    for answer, official, strict in (
        ("Norway", "no", None),
        ("  no", "no", "no"),
        ("It is no.", None, "no"),
        ("yes/no", "yes", None),
    ):
        assert MME.judge(item, answer).parsed == official
        assert MME.judge(item, answer, "strict").parsed == strict


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: give the folder of the release or of eval_tool"):
        MME.load(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"holds no MME questions: .* \(existence\.txt"):
        MME.load(tmp_path)
    folder = tmp_path / "count"
    folder.mkdir()
    (folder / "1.txt").write_text("How many?\tYes\nno tab\n")
    good, bad = MME.load(tmp_path)
    assert isinstance(good, Item)
    assert isinstance(bad, InvalidItem)
    with pytest.raises(InputError, match=r"1\.jpg does not exist"):
        MME.sample(good).load_images()


def test_parquet_files_of_the_hub(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    encoded = io.BytesIO()
    Image.new("RGB", (9, 7)).save(encoded, "PNG")
    rows = [
        {"question_id": f"{name}/1.png", "image": {"bytes": encoded.getvalue(), "path": None}, "category": name,
         "question": f"{question}?", "answer": answer}
        for name in ("code_reasoning", "count")
        for question, answer in (("Is it", "Yes"), ("Is it not", "No"))
    ]  # fmt: skip
    (tmp_path / "data").mkdir()
    pandas.DataFrame(rows).to_parquet(tmp_path / "data" / "test-00000-of-00001-a25dbe.parquet")
    items = MME.load(tmp_path)
    assert [item.id for item in items] == [
        "count/1.png/1",
        "count/1.png/2",
        "code_reasoning/1.png/1",
        "code_reasoning/1.png/2",
    ]
    assert isinstance(items[0], Item)
    assert MME.sample(items[0]).load_images()[0].size == (9, 7)
