"""Result files of lmms-eval and VLMEvalKit: scored by our rules, compared in pairs, and by their own scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.benchmarks import find_bench
from sightline.benchmarks.answers import score_answers
from sightline.errors import InputError
from support.json_lines import lines

POPE = find_bench("pope")
SPLITS = ("adversarial", "popular", "random")


def truth(number: int) -> str:
    return "yes" if number % 2 else "no"


def words(number: int, wrong: set[int]) -> str:
    return {"yes": "No", "no": "Yes"}[truth(number)] if number in wrong else truth(number).capitalize()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six questions a split."""
    folder = tmp_path / "coco"
    folder.mkdir()
    for split in SPLITS:
        lines(folder / f"coco_pope_{split}.json", [
            {"question_id": n, "image": f"{n}.jpg", "text": f"Is there a {split} {n}?", "label": truth(n)}
            for n in range(1, 7)
        ])  # fmt: skip
    return folder


def lmms_new(wrong: set[int]) -> list[dict[str, Any]]:
    """As lmms-eval 0.7: text under filtered_resps, the document dropped, question ids that repeat, any order."""
    found = []
    for place, split in enumerate(SPLITS):
        for n in range(1, 7):
            right = float(n not in wrong)
            score = {"question_id": n, "score": right, "prediction": words(n, wrong).lower(), "ground_truth": truth(n)}
            found.append({
                "doc_id": 6 * place + n - 1, "target": truth(n), "filtered_resps": words(n, wrong), "doc_hash": "x",
                "input": f"<image>Is there a {split} {n}?\nAnswer in a word.", "pope_accuracy": score,
            })  # fmt: skip
    return found[::-1]


def lmms_old(wrong: set[int]) -> list[dict[str, Any]]:
    """As before: nested lists, the document kept."""
    return [
        {"doc_id": 6 * place + n - 1, "target": truth(n), "resps": [[words(n, wrong)]],
         "filtered_resps": [words(n, wrong)],
         "doc": {"question_id": str(n), "question": f"Is there a {split} {n}?", "answer": truth(n), "category": split}}
        for place, split in enumerate(SPLITS) for n in range(1, 7)
    ]  # fmt: skip


def vlmevalkit(wrong: set[int], judged: bool = False) -> str:
    """A row a question; the first two stand in all splits."""
    rows = ["index\tquestion\tanswer\tcategory\tprediction" + ("\tscore" if judged else "")]
    for n in range(1, 7):
        splits = ",".join(SPLITS) if n < 3 else SPLITS[n % 3]
        rows.append(f"{n}\tIs there a thing {n}?\t{truth(n).capitalize()}\t{splits}\t{words(n, wrong)}")
        rows[-1] += f"\t{n not in wrong}" if judged else ""
    return "\n".join(rows)


@pytest.mark.parametrize("form", [lmms_new, lmms_old])
def test_samples_of_lmms_eval(tmp_path: Path, data: Path, form: Any) -> None:
    path = lines(tmp_path / "20260101_samples_pope.jsonl", form({1}))
    with_data = score_answers(POPE, path, data).document
    assert (with_data["n"], with_data["accuracy"], with_data["missing"]) == (18, pytest.approx(5 / 6), 0)
    assert {part["accuracy"] for part in with_data["splits"].values()} == {5 / 6}
    assert score_answers(POPE, path).document["accuracy"] == pytest.approx(5 / 6)


def test_two_runs_of_lmms_eval_in_pairs(tmp_path: Path, data: Path) -> None:
    a = lines(tmp_path / "a.jsonl", lmms_new({1, 2, 3}))
    b = lines(tmp_path / "b.jsonl", lmms_old({3}))
    for place in (data, None):
        assert sl.compare("pope", a, b, data=place).paired[0]["delta"] == pytest.approx(1 / 3)
    c = lines(tmp_path / "c.jsonl", lmms_new({3}))
    own = sl.compare("judged", a, c)
    assert own.paired[0]["delta"] == pytest.approx(1 / 3)
    assert own.paired[0]["flips"] == [0, 6]
    assert own.to_dict()["methods"]["a"]["metric"] == "pope_accuracy"
    with pytest.raises(InputError, match="no metric 'f1'; it has pope_accuracy"):
        sl.compare("judged", a, c, metric="f1")


def test_tables_of_vlmevalkit(tmp_path: Path) -> None:
    a, b = tmp_path / "a_POPE.tsv", tmp_path / "b_POPE.tsv"
    a.write_text(vlmevalkit({1}))
    b.write_text(vlmevalkit(set()))
    document = score_answers(POPE, a).document
    assert document["n"] == 10  # two rows stand in three splits each
    assert document["accuracy"] == pytest.approx(7 / 10)
    assert sl.compare("pope", a, b).paired[0]["flips"] == [0, 3]
    as_json = tmp_path / "a_POPE.json"
    rows = [dict(zip(*(line.split("\t") for line in (text, row)), strict=True))
            for text, *rest in [vlmevalkit({1}).split("\n")] for row in rest]  # fmt: skip
    as_json.write_text(json.dumps(rows))
    assert score_answers(POPE, as_json).document["accuracy"] == pytest.approx(7 / 10)
    for path, wrong in ((a, {1}), (b, {2, 3})):
        path.write_text(vlmevalkit(wrong, judged=True))
    assert sl.compare("judged", a, b).to_dict()["methods"]["a_POPE.tsv"]["mean"] == pytest.approx(7 / 10)


def test_an_excel_table(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in vlmevalkit({1}).split("\n"):
        book.active.append([int(cell) if cell.isdigit() else cell for cell in row.split("\t")])
    book.save(tmp_path / "a_POPE.xlsx")
    assert score_answers(POPE, tmp_path / "a_POPE.xlsx").document["accuracy"] == pytest.approx(7 / 10)


def test_files_without_scores_are_no_judged_answers(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"id": 1, "response": "yes"}])
    with pytest.raises(InputError, match="holds no score of another harness"):
        sl.compare("judged", path, path)
    with pytest.raises(InputError, match="no questions to ask"):
        find_bench("judged").load()
