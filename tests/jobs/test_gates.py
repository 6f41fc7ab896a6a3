"""Gates: conditions on figures, no score worse than before, and what tells a machine of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import sightline as sl
from sightline.cli.main import cli
from sightline.errors import InputError
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.gates import Gate, held, markdown, parse_fail_if, require_figures, write_junit
from sightline.jobs.models import ModelSource
from sightline.jobs.regressions import not_worse, not_worse_than_run
from sightline.runs.folder import Run


def document(**figures: Any) -> dict[str, Any]:
    return {
        "model": "m", "bench": "pope", "headline": "accuracy", "better": "larger", "paired": [],
        "methods": {"none": {"accuracy": 0.9, "f1": None, "splits": {"random": {"f1": 0.8}}}, "vcd": figures},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "passed"),
    [
        ("accuracy < 0.8", [True, True]), ("accuracy < 0.95", [False, True]), ("accuracy>=0.9", [False, False]),
        ("pope/accuracy == 0.9", [False, True]), ("splits.random.f1 < 0.9", [False]), ("f1 < 0.1", [False]),
    ],
)  # fmt: skip
def test_conditions_on_every_method(condition: str, passed: list[bool]) -> None:
    gates = held([document(accuracy=0.96)], [parse_fail_if(condition)])
    assert [gate.passed for gate in gates] == passed


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy < ", "accuracy < many", "accuracy < nan", "< 0.5", "a b < 1", ""]
)
def test_what_is_no_condition_is_one_sentence(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read: a figure"):
        parse_fail_if(text)


@pytest.mark.parametrize("text", ["recall < 1", "mme/accuracy < 1", "splits.popular.f1 < 1"])
def test_a_condition_that_is_for_nothing_is_no_pass(text: str) -> None:
    with pytest.raises(InputError, match="is for no figure here"):
        held([document(accuracy=1.0)], [parse_fail_if(text)])


@pytest.mark.parametrize(
    ("better", "ci95", "passed"),
    [("larger", [-0.2, -0.01], False), ("larger", [-0.2, 0.01], True), ("smaller", [0.01, 0.1], False),
     ("smaller", [-0.2, -0.1], True)],
)  # fmt: skip
def test_worse_is_where_all_of_the_interval_is_worse(better: str, ci95: list[float], passed: bool) -> None:
    pair = {"a": "a", "b": "b", "delta": sum(ci95) / 2, "ci95": ci95, "n": 9}
    assert not_worse([document() | {"better": better, "paired": [pair]}])[0].passed is passed


def test_the_files(tmp_path: Path) -> None:
    gates = [Gate("m on pope, none", "f1 < 0.8", True, "f1 is 0.9"), Gate("a|b\x1b", "f1 > 1", False, "f1 is 2")]
    write_junit(tmp_path / "junit.xml", gates)
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite.iter("testcase")] == ["f1 < 0.8", "f1 > 1"]
    assert "| a\\|b  | f1 > 1 | f1 is 2 | **failed** |" in markdown(gates)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--fail-if", "acuracy < 0.8"], "is for no figure here"),
        (["--fail-if", "shapes-pope/splits.random.f2 < 0.8"], "is for no figure here"),
        (["--fail-if-worse", "nowhere"], "nowhere"),
        (["--fail-if-worse", "before"], "before holds no answers under pai; its methods are none"),
        (["--fail-if-worse", "measured"], "measured holds a run of `measure`, which has no answers"),
        (["--method", "vcd:alfa=2"], "no field 'alfa' (did you mean alpha?)"),
        (["--out", "measured"], "holds a run of `measure`, not of `eval`"),
    ],
)
def test_what_cannot_hold_is_refused_before_a_model_loads(
    more: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ModelSource, "open", lambda *given, **more: pytest.fail("the model was loaded"))
    with Run.open("before", "eval", {"bench": "shapes-pope", "seed": 0}, info={"limit": 6}) as run:
        run.record("random/1", model="old", method="none", result={"response": "Yes"})
    with Run.open("measured", "measure", {}) as run:
        run.record("1", model="old", method="none", result={})
    given = [
        "eval",
        "tiny-llava",
        "--bench",
        "shapes-pope",
        "--limit",
        "6",
        "--method",
        "none",
        "--method",
        "pai",
        *more,
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main(given)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("name", ["shapes-pope", "shapes-mme", "shapes-chair", "shapes-blink", "shapes-mmvp"])
def test_the_figures_of_a_run_are_known_before_it(name: str) -> None:
    items = find_items(name, limit=8)
    verdicts = {item.id: items.bench.verdict(item, "Yes, a red circle.") for item in items.items}
    figures = items.bench.score(items.items, verdicts)
    numbers = [name for name, value in figures.items() if isinstance(value, float)]
    assert numbers
    require_figures([items], [parse_fail_if(f"{name} < 0") for name in [*numbers, "failed", "at_limit"]])


def test_a_run_is_held_against_the_run_before(tmp_path: Path) -> None:
    found = sl.evaluate("tiny-llava", "shapes-pope", ["none"], limit=36, out=tmp_path / "now")
    answers = {record.id: record.result["response"] for record in found.runs[0].all_records() if record.result}
    settings = {"bench": "shapes-pope", "seed": 0}
    for name, change in (("same", lambda said: said), ("worse", lambda said: "Yes")):
        with Run.open(tmp_path / name, "eval", settings, info={"limit": 36}) as run:
            for item, said in answers.items():
                run.record(item, model="old", method="none", result={"response": change(said)})
    assert not_worse_than_run(found, tmp_path / "same")[0].passed
    better = not_worse_than_run(found, tmp_path / "worse")[0]
    assert better.passed
    assert better.words.startswith("+0.")


def test_a_failed_gate_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        lines = [f'{{"id": {n}, "label": "yes", "response": "{"yes" if name == "a" else "no"}"}}' for n in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sides = ["--answers", str(tmp_path / "a.jsonl"), "--answers", str(tmp_path / "b.jsonl")]
    codes = []
    for more in ([], ["--fail-if", "accuracy < 0.5"], ["--fail-if-worse"], ["--fail-if", "acc"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["compare", "pope", *sides, *more, "--json"])
        codes.append(ended.value.code)
    assert codes == [0, 3, 3, 2]
    assert "1 of 1 gates failed" in capsys.readouterr().err


def test_scored_answers_have_gates_too(tmp_path: Path) -> None:
    for name in ("yes", "no"):
        lines = [f'{{"id": {n}, "label": "yes", "response": "{name}"}}' for n in range(30)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    before, files = (
        tmp_path / "yes.jsonl",
        ["--junit", str(tmp_path / "g.xml"), "--gates-markdown", str(tmp_path / "g")],
    )
    codes = []
    for name, more in (
        ("yes", ["--fail-if", "f1 < 0.8", "--fail-if-worse", str(before)]),
        ("no", ["--fail-if", "pope/accuracy < 0.8", *files]),
        ("no", ["--fail-if-worse", str(before)]),
        ("no", ["--fail-if", "recal < 1"]),
        ("yes", ["--junit", str(tmp_path / "nowhere" / "g.xml")]),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["score", "pope", "--answers", str(tmp_path / f"{name}.jsonl"), *more])
        codes.append(ended.value.code)
    assert codes == [0, 3, 3, 2, 2]
    assert ElementTree.parse(tmp_path / "g.xml").getroot().get("failures") == "1"
    assert "accuracy is 0 | **failed**" in (tmp_path / "g").read_text()


def test_a_difference_without_an_interval_is_judged_by_itself_and_says_so() -> None:
    pair = {"a": "none", "b": "vcd", "delta": -0.1, "ci95": None, "n": 2}
    (gate,) = not_worse([{"bench": "pope", "headline": "accuracy", "better": "larger", "paired": [pair]}])
    assert not gate.passed
    assert gate.words == "-0.1 (too few for an interval, n 2)"
