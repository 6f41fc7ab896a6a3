"""Answers made anywhere against each other: files, official folders, run folders, mappings, from Python and command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sightline as sl
from sightline.cli.compare import command
from sightline.errors import InputError
from sightline.runs.folder import Run

SPLITS = ("random", "popular", "adversarial")
A_RIGHT = {0, 1, 2, 3, 4, 5}
B_RIGHT = {0, 1, 2, 6, 7, 8, 9}


def label(number: int) -> str:
    return "yes" if number % 2 else "no"


def words(number: int, right: set[int]) -> str:
    return label(number) if number in right else {"yes": "No.", "no": "Yes"}[label(number)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten questions a split; the ids repeat across splits, and so do the questions about the images."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in SPLITS:
        lines = [
            {"question_id": n + 1, "image": f"{n}.jpg", "text": f"Is there a thing {n}?", "label": label(n)}
            for n in range(10)
        ]
        (folder / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def official(folder: Path, right: set[int]) -> Path:
    folder.mkdir()
    for split in SPLITS:
        lines = [{"question_id": n + 1, "answer": words(n, right)} for n in range(10)]
        (folder / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, lines)))
    return folder


def mapping(right: set[int]) -> dict[str, str]:
    return {f"{split}/{n + 1}": words(n, right) for split in SPLITS for n in range(10)}


def run_folder(folder: Path) -> Path:
    with Run.open(folder, "eval", {"bench": "pope", "seed": 0}) as run:
        for method, right in (("none", A_RIGHT), ("vcd", B_RIGHT)):
            for name, said in mapping(right).items():
                run.record(name, model="m", method=method, result={"response": said})
    return folder


def file(path: Path, right: set[int]) -> Path:
    path.write_text("\n".join(json.dumps({"id": name, "response": said}) for name, said in mapping(right).items()))
    return path


def check(paired: dict[str, Any]) -> None:
    assert paired["delta"] == pytest.approx(0.1)
    assert paired["flips"] == [9, 12]
    assert paired["p_value"] == 1.0  # seven questions differ, three against four
    assert paired["units"] == 10
    assert paired["ci95"][0] < 0.1 < paired["ci95"][1]


def test_every_kind_of_answers(tmp_path: Path, data: Path) -> None:
    run = run_folder(tmp_path / "run")
    kinds = [
        (mapping(A_RIGHT), mapping(B_RIGHT)),
        (official(tmp_path / "a", A_RIGHT), str(official(tmp_path / "b", B_RIGHT))),
        (file(tmp_path / "a.jsonl", A_RIGHT), mapping(B_RIGHT)),
    ]
    for a, b in kinds:
        found = sl.compare("pope", a, b, data=data)
        check(found.to_dict()["paired"][0])
    found = sl.compare("pope", run, run, data=data, methods=("none", "vcd"))
    check(found.paired[0])
    assert (found.paired[0]["a"], found.paired[0]["b"]) == ("none", "vcd")
    assert set(found.to_dict()["methods"]["none"]) >= {"accuracy", "accuracy_ci95", "f1", "n"}
    assert list(found.to_pandas()["metric"]) == ["accuracy", "f1", "yes_ratio"]


def test_the_command_prints_the_same_document(tmp_path: Path, data: Path) -> None:
    a, b = file(tmp_path / "a.jsonl", A_RIGHT), file(tmp_path / "b.jsonl", B_RIGHT)
    arguments = ["pope", "--answers", str(a), "--answers", str(b), "--data", str(data)]
    printed = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(printed.stdout) == json.loads(json.dumps(sl.compare("pope", a, b, data=data).to_dict()))
    shown = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "sign-flip p" in shown.stdout
    with pytest.raises(InputError, match="give --answers twice"):
        CliRunner().invoke(command, ["pope", "--answers", str(a)], catch_exceptions=False)


def test_more_than_two_are_adjusted_for_each_other(tmp_path: Path, data: Path) -> None:
    sides = [mapping(A_RIGHT), mapping(B_RIGHT), mapping(set(range(10)))]
    found = sl.compare("pope", *sides, data=data, names=("a", "b", "c"))
    assert [entry["b"] for entry in found.paired] == ["b", "c"]
    assert all(entry["p_holm"] >= entry["p_value"] for entry in found.paired)


def test_things_that_are_no_answers(data: Path) -> None:
    with pytest.raises(InputError, match="list is no set of answers"):
        sl.compare("pope", {"random/1": "yes"}, ["yes"], data=data)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="data is int"):
        sl.compare("pope", {"random/1": "yes"}, {"random/1": "no"}, data=3)  # type: ignore[arg-type]


def test_label_files_are_no_answers(data: Path) -> None:
    with pytest.raises(InputError, match="holds no answers to pope"):
        sl.compare("pope", data, data, data=data)


def test_answers_to_other_items_have_nothing_in_common(tmp_path: Path) -> None:
    sides = []
    for split in ("x", "y"):
        path = tmp_path / f"{split}.jsonl"
        path.write_text(json.dumps({"id": f"{split}/1", "label": "yes", "response": "yes"}))
        sides.append(path)
    with pytest.raises(InputError, match="no item in common"):
        sl.compare("pope", *sides)
    with pytest.raises(InputError, match="are empty"):
        sl.compare("pope", {}, {})
