"""sl.evaluate: its documents, its run folder, and that the answers do not depend on how they were made."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sightline as sl
import toy_bench
from sightline.errors import SightlineWarning
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.running_score import RunningScore
from sightline.models.vlm import VLM
from sightline.runs.batches import Outcome
from sightline.runs.records import Records, read_records
from sightline.runs.runner import Condition
from sightline.zoo.official.drawing import draw
from support.runs import lines_of, write_lines

NO_MODEL = "sightline.jobs.models.load_model"
PAI = "pai:alpha=4,first_layer=0"
TWO = ["none", PAI]


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with toy_bench.registered():
        yield


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Eight questions of two groups on four scenes."""
    for number in range(4):
        Image.effect_noise((40, 30), 40 + 20 * number).convert("RGB").save(tmp_path / f"{number}.png")
    questions = ["Is there a red circle?", "What do you see? Is there a blue square? yes or no", "How many?"]
    lines = [
        {
            "id": f"q{number}",
            "prompt": questions[number % 3],
            "images": [f"{number // 2}.png"],
            "truth": "yes" if number % 2 else "no",
            "group": "first" if number < 4 else "second",
            "about": {"scene": str(number // 2)},
        }
        for number in range(8)
    ]
    return write_lines(tmp_path / "items.jsonl", lines)


Evaluated = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluated(tiny: Path, items: Path) -> Evaluated:
    """The document of an evaluation of the tiny model on the eight questions."""

    def evaluate(methods: Any = ("none",), model: Any = None, bench: Any = None, **fields: Any) -> dict[str, Any]:
        return sl.evaluate(model or str(tiny), bench or f"toy:{items}", methods, **fields).to_dict()

    return evaluate


def answers_in(folder: str) -> dict[tuple[str, str], str | None]:
    """By method and id."""
    return {
        (record.method, record.id): None if record.result is None else record.result["response"]
        for record in read_records(folder)
    }


def test_the_document_and_the_folder(evaluated: Evaluated, tiny: Path) -> None:
    document = evaluated(TWO, out="run")
    assert (document["model"], document["bench"], document["n"]) == (str(tiny), "toy", 8)
    assert list(document["methods"]) == TWO
    for told in document["methods"].values():
        assert (told["n"], told["failed"]) == (8, 0)
        assert 0 <= told["accuracy"] <= 1
    (pair,) = document["paired"]
    assert (pair["a"], pair["b"], pair["n"], pair["missing"]) == ("none", PAI, 8, 0)
    assert {"delta", "ci95", "p_value"} <= pair.keys()
    assert [len(pair["flipped"][side]) for side in ("a_only", "b_only")] == pair["flips"]
    assert json.loads(Path("run/summary.json").read_text()) == document
    rows = list(csv.DictReader(Path("run/table.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == TWO
    assert float(rows[0]["accuracy"]) == document["methods"]["none"]["accuracy"]
    assert "| none |" in Path("run/table.md").read_text()
    assert len(answers_in("run")) == 16


def test_answers_do_not_depend_on_the_batch(evaluated: Evaluated) -> None:
    for size in (1, 3, "auto"):
        evaluated(TWO, out=f"run-{size}", batch_size=size, new_tokens=4, dtype="float32")
    assert answers_in("run-1") == answers_in("run-3") == answers_in("run-auto")
    assert len(set(answers_in("run-1").values())) > 1


def test_methods_parsers_and_items_may_be_added(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluated(out="run", limit=4)
    assert (first["n"], first["items"], first["paired"]) == (4, {"asked": 4, "of": 8}, [])
    assert {name for _, name in answers_in("run")} == {"q0", "q1", "q4", "q5"}
    more = evaluated(TWO, out="run", limit=6)
    assert more["n"] == more["paired"][0]["n"] == 6
    with monkeypatch.context() as patch:
        patch.setattr(NO_MODEL, lambda *_: pytest.fail("the model was loaded"))
        assert evaluated(TWO, out="run", limit=6) == more
        assert evaluated(out="run", limit=4) == first
        strict = evaluated(TWO, out="run", limit=6, parser="strict")
    assert strict["parser"] == "strict"
    assert strict["methods"]["none"]["unparsed"] >= more["methods"]["none"]["unparsed"]
    assert len(lines_of(Path("run"))) == 12


def test_cut_anywhere_it_ends_the_same(evaluated: Evaluated) -> None:
    fields: dict[str, Any] = {"out": "run", "batch_size": 2, "limit": 4}
    evaluated(TWO, **fields)
    samples, whole = Path("run/samples.jsonl"), answers_in("run")
    content = samples.read_bytes()
    for size in (0, content.index(b"\n") + 5, len(content) // 2, len(content) - 1):
        samples.write_bytes(content[:size])
        evaluated(TWO, **fields)
        assert answers_in("run") == whole
        assert len(lines_of(samples)) == len(whole)


def test_another_question_under_the_same_id_is_refused(evaluated: Evaluated, items: Path) -> None:
    evaluated(out="run", limit=2)
    items.write_text(items.read_text().replace('"truth": "no"', '"truth": "yes"'))
    evaluated(out="run", limit=2)  # the same question; its answer is scored anew
    items.write_text(items.read_text().replace("red", "green"))
    with pytest.raises(sl.InputError, match="another question under the id 'q0'"):
        evaluated(out="run", limit=2)
    with pytest.raises(sl.InputError, match="new_tokens"):
        evaluated(out="run", limit=2, new_tokens=9)


def test_what_cannot_be_asked_fails_alike_and_the_run_goes_on(evaluated: Evaluated, items: Path) -> None:
    lines = lines_of(items)
    lines[2]["images"] = ["missing.png"]
    lines[5] = {"id": "q5"}
    whole = Path("0.png").rename("whole.png")
    Path("0.png").write_bytes(whole.read_bytes()[:60])
    write_lines(items, lines)
    document = evaluated(TWO, out="run")
    assert [(told["n"], told["failed"]) for told in document["methods"].values()] == [(4, 4), (4, 4)]
    assert (document["n"], document["answered_by_all"], document["paired"][0]["n"]) == (8, 4, 4)
    errors = {record.id: record.error for record in read_records("run") if record.error}
    assert "missing.png does not exist" in str(errors["q2"])
    assert "0.png cannot be read" in str(errors["q0"])
    assert errors["q5"] == "the row cannot be read"
    shutil.copy(whole, "0.png")
    assert evaluated(TWO, out="run") == document
    again = evaluated(TWO, out="run", retry_failed=True)
    assert [told["failed"] for told in again["methods"].values()] == [2, 2]


def test_items_that_only_one_method_answered_are_left_out_of_the_pair(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, calls = VLM.generate_tokens, []

    def failing_once(self: VLM, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("odd")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(VLM, "generate_tokens", failing_once)
    document = evaluated(TWO, batch_size=1)
    assert [told["failed"] for told in document["methods"].values()] == [1, 0]
    assert (document["paired"][0]["n"], document["paired"][0]["missing"]) == (7, 1)


def test_nothing_answered_is_an_error(evaluated: Evaluated) -> None:
    for number in range(4):
        Path(f"{number}.png").unlink()
    with pytest.raises(sl.InputError, match=r"Not one of 8 items of toy.*does not exist"):
        evaluated()


def test_one_id_for_two_items_is_refused(evaluated: Evaluated, items: Path) -> None:
    write_lines(items, [*lines_of(items), lines_of(items)[0]])
    with pytest.raises(sl.InputError, match="2 items with the id 'q0'"):
        evaluated()


def test_short_memory_makes_smaller_batches_for_good(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    generate, sizes = VLM.generate_tokens, []

    def short_of_memory(self: VLM, inputs: Any, **options: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(self, inputs, **options)

    evaluated(TWO, new_tokens=2, out="plain")
    monkeypatch.setattr(VLM, "generate_tokens", short_of_memory)
    evaluated(TWO, new_tokens=2, out="run", batch_size=8)
    assert sizes == [8, 4, 2, 2, 4, 2, 2, *[2] * 4]
    assert answers_in("run") == answers_in("plain")


def test_several_benchmarks_and_models(evaluated: Evaluated, tiny: Path, tmp_path: Path, items: Path) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    names = [str(tiny), str(other)]
    documents = evaluated(model=names, bench=[f"toy:{items}", "toy"], limit=2, out="run")["evaluations"]
    assert [(told["model"], told["path"]) for told in documents] == [
        (names[0], str(items)), (names[1], str(items)), (names[0], None), (names[1], None)
    ]  # fmt: skip
    assert documents[0]["methods"]["none"]["accuracy"] == documents[1]["methods"]["none"]["accuracy"]
    assert {path.name for path in Path("run").iterdir()} >= {"toy", "toy-2", "summary.json", "table.csv"}
    assert len(answers_in("run/toy")) == 2
    summary = Path("run/summary.json").read_bytes()
    with pytest.raises(sl.InputError, match="run holds run folders: give --out run/toy to continue that"):
        evaluated(out="run")
    with pytest.raises(sl.InputError, match="give one of them, such as run/toy, run/toy-2"):
        sl.score("toy", "run")
    with pytest.raises(sl.InputError, match="run/toy holds a run with path = "):
        evaluated(model=names, bench=["toy", f"toy:{items}"], limit=2, out="run")
    assert Path("run/summary.json").read_bytes() == summary
    assert evaluated(model=names, out="run/toy", limit=2)["evaluations"]


def test_it_says_the_score_so_far(items: Path) -> None:
    asked = find_items(f"toy:{items}")
    score = RunningScore(asked, Records(), "m", "official")
    plain, pai = (Condition("m", name, lambda batch: []) for name in ("none", "pai"))
    words = [
        score.after(plain, Outcome("q0", 0.1, {"response": "no"})),
        score.after(pai, Outcome("q0", 0.1, {"response": "perhaps"})),
        score.after(pai, Outcome("q1", 0.1, error=ValueError("odd"))),
    ]
    assert words == ["accuracy 1.000, unparsed 0", "accuracy 0.000, unparsed 1", ""]


def test_a_scorer_that_fails_meanwhile_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    items = find_items(toy_bench.Toy(), limit=1)
    score = RunningScore(items, Records(), "m", "official")
    monkeypatch.setattr(toy_bench.Toy, "score", lambda *_: 1 / 0)
    outcome = Outcome(items.items[0].id, 0.1, {"response": "yes"})
    assert score.after(Condition("m", "none", lambda batch: []), outcome) == ""


def test_a_benchmark_is_data_for_other_jobs(tiny: Path, items: Path) -> None:
    lines = lines_of(items)
    write_lines(items, [*lines, {"id": "bad"}])
    fields: dict[str, Any] = {"queries": "prompt", "out": "run"}
    with pytest.warns(SightlineWarning, match="1 items of toy"):
        found = sl.measure(str(tiny), f"toy:{items}", **fields, limit=2)
    assert found.to_dict()["samples"] == 2
    assert {record.id for record in read_records("run")} == {"q0", "q1"}
    with pytest.warns(SightlineWarning, match="1 items of toy"):
        sl.measure(str(tiny), f"toy:{items}", **fields, limit=3)
    write_lines(items, [{**lines[0], "prompt": "How many?"}, *lines[1:]])
    with pytest.raises(sl.InputError, match="data_sha256"):
        sl.measure(str(tiny), f"toy:{items}", **fields, limit=3)
    assert sl.find_sinks(str(tiny), "toy", limit=2, tau=3).to_dict()["samples"] == 2


def test_run_json_tells_the_latest_command(evaluated: Evaluated) -> None:
    for limit in (2, 6):
        evaluated(out="run", limit=limit)
        about = json.loads(Path("run/run.json").read_text())
        assert (about["info"]["limit"], about["info"]["items"]) == (limit, limit)
    assert about["settings"]["bench"] == "toy"
    assert any(name.startswith("content of") for name in about["settings"])  # what was pinned later is still there


def test_words_without_end_fail_alone(evaluated: Evaluated, items: Path) -> None:
    """A JSON line of 10 MB, as damage makes it, costs neither minutes nor the other items their batch."""
    lines = lines_of(items)
    lines[3]["prompt"] = "red " * 2_500_000
    lines[6]["prompt"] = "how many " * 1_100  # more than the 2,048 positions of the model
    write_lines(items, lines)
    document = evaluated(TWO, out="run")
    assert [(told["n"], told["failed"]) for told in document["methods"].values()] == [(6, 2), (6, 2)]
    errors = {record.id: record.error for record in read_records("run") if record.error}
    assert set(errors) == {"q3", "q6"}
    assert all("words alone are more than 2,048 tokens" in str(error) for error in errors.values())
    assert Path("run/samples.jsonl").stat().st_size < 10_000


@pytest.mark.parametrize("damage", ["truncated", "of no kind"])
def test_damaged_parquet_among_whole_files_is_recorded(evaluated: Evaluated, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "blink"
    draw("blink", folder, 10)
    (broken,) = (folder / "Counting").glob("*.parquet")
    broken.write_bytes(broken.read_bytes()[:600] if damage == "truncated" else b"no parquet at all")
    for told in evaluated(TWO, bench=f"shapes-blink:{folder}")["methods"].values():
        assert (told["n"], told["failed"]) == (8, 1)
        assert "Counting" not in told["subtasks"]
    for other in folder.glob("*/*.parquet"):
        other.write_bytes(other.read_bytes()[:600])
    with pytest.raises(sl.InputError, match="a whole file is expected"):
        evaluated(bench=f"shapes-blink:{folder}")


def test_a_model_that_answers_nothing_of_use_is_scored(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VLM, "generate_tokens", lambda self, inputs, **_: [[2]] * len(inputs["input_ids"]))
    document = evaluated(bench="toy", limit=2)
    assert document["methods"]["none"] | {"accuracy": 0.0, "unparsed": 2, "n": 2} == document["methods"]["none"]
