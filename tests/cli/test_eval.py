"""sightline eval: its documents, its run folder, and that the answers do not depend on how they were made."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import toy_bench
from sightline.jobs.benchmark_items import find_items
from sightline.jobs.running_score import RunningScore
from sightline.models.vlm import VLM
from sightline.runs.batches import Outcome
from sightline.runs.records import Records, read_records
from sightline.runs.runner import Condition

NO_MODEL = "sightline.jobs.models.load_model"


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
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
    return write(tmp_path / "items.jsonl", lines)


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_in(folder: Path) -> dict[tuple[str, str], str | None]:
    """By method and id."""
    return {
        (record.method, record.id): None if record.result is None else record.result["response"]
        for record in read_records(folder)
    }


PAI = "pai:alpha=4,first_layer=0"
TWO = ("--method", "none", "--method", PAI)


def test_the_document_and_the_folder(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    words = ("eval", tiny, "--bench", f"toy:{items}", *TWO, "--out", "run")
    document = sightline(*words, "--json").document
    assert (document["model"], document["bench"], document["n"]) == (str(tiny), "toy", 8)
    assert list(document["methods"]) == ["none", PAI]
    for told in document["methods"].values():
        assert (told["n"], told["failed"]) == (8, 0)
        assert 0 <= told["accuracy"] <= 1
    (pair,) = document["paired"]
    assert (pair["a"], pair["b"], pair["n"], pair["missing"]) == ("none", PAI, 8, 0)
    assert {"delta", "ci95", "p_value"} <= pair.keys()
    assert [len(pair["flipped"][side]) for side in ("a_only", "b_only")] == pair["flips"]
    assert json.loads(Path("run/summary.json").read_text()) == document
    rows = list(csv.DictReader(Path("run/table.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["none", PAI]
    assert float(rows[0]["accuracy"]) == document["methods"]["none"]["accuracy"]
    assert len(answers_in(Path("run"))) == 16
    shown = sightline(*words)
    for word in ("8 items", "accuracy", "95% interval", "unparsed", "failed", "s/item", "Against none", "McNemar"):
        assert word in shown.out
    assert "samples.jsonl" in shown.err
    assert "| none |" in Path("run/table.md").read_text()
    assert all(path.name in shown.err for path in Path("run").glob("table.*")), "every table is named"


def test_answers_do_not_depend_on_the_batch(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    words = ("eval", tiny, "--bench", f"toy:{items}", *TWO, "--new-tokens", 4, "--dtype", "float32")
    for size in (1, 3, "auto"):
        assert sightline(*words, "--out", f"run-{size}", "--batch-size", size).code == 0
    assert answers_in(Path("run-1")) == answers_in(Path("run-3")) == answers_in(Path("run-auto"))
    assert len(set(answers_in(Path("run-1")).values())) > 1


def test_methods_parsers_and_items_may_be_added(
    sightline: Callable[..., Any], tiny: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("eval", tiny, "--bench", f"toy:{items}", "--out", "run", "--json")
    first = sightline(*words, "--limit", 4).document
    assert (first["n"], first["items"], first["paired"]) == (4, {"asked": 4, "of": 8}, [])
    assert {name for _, name in answers_in(Path("run"))} == {"q0", "q1", "q4", "q5"}
    more = sightline(*words, *TWO, "--limit", 6).document
    assert more["n"] == more["paired"][0]["n"] == 6
    with monkeypatch.context() as patch:
        patch.setattr(NO_MODEL, lambda *_: pytest.fail("the model was loaded"))
        assert sightline(*words, *TWO, "--limit", 6).document == more
        assert sightline(*words, "--limit", 4).document == first
        strict = sightline(*words, *TWO, "--limit", 6, "--parser", "strict").document
    assert strict["parser"] == "strict"
    assert strict["methods"]["none"]["unparsed"] >= more["methods"]["none"]["unparsed"]
    assert len(lines_of(Path("run/samples.jsonl"))) == 12


def test_cut_anywhere_it_ends_the_same(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    words = ("eval", tiny, "--bench", f"toy:{items}", *TWO, "--out", "run", "--batch-size", 2, "--limit", 4)
    assert sightline(*words).code == 0
    samples, whole = Path("run/samples.jsonl"), answers_in(Path("run"))
    content = samples.read_bytes()
    for size in (0, content.index(b"\n") + 5, len(content) // 2, len(content) - 1):
        samples.write_bytes(content[:size])
        assert sightline(*words).code == 0
        assert answers_in(Path("run")) == whole
        assert len(lines_of(samples)) == len(whole)


def test_another_question_under_the_same_id_is_refused(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    words = ("eval", tiny, "--bench", f"toy:{items}", "--out", "run", "--limit", 2)
    assert sightline(*words).code == 0
    items.write_text(items.read_text().replace('"truth": "no"', '"truth": "yes"'))
    assert sightline(*words).code == 0  # the same question; its answer is scored anew
    items.write_text(items.read_text().replace("red", "green"))
    assert "another question under the id 'q0'" in sightline(*words).sentence
    assert "new_tokens" in sightline(*words, "--new-tokens", 9).sentence


def test_what_cannot_be_asked_fails_alike_and_the_run_goes_on(
    sightline: Callable[..., Any], tiny: Path, items: Path
) -> None:
    lines = lines_of(items)
    lines[2]["images"] = ["missing.png"]
    lines[5] = {"id": "q5"}
    Path(items.parent / "0.png").rename(items.parent / "whole.png")
    Path(items.parent / "0.png").write_bytes(Path(items.parent / "whole.png").read_bytes()[:60])
    write(items, lines)
    words = ("eval", tiny, "--bench", f"toy:{items}", *TWO, "--out", "run")
    document = sightline(*words, "--json").document
    assert [(told["n"], told["failed"]) for told in document["methods"].values()] == [(4, 4), (4, 4)]
    assert (document["n"], document["answered_by_all"], document["paired"][0]["n"]) == (8, 4, 4)
    errors = {record.id: record.error for record in read_records("run") if record.error}
    assert "missing.png does not exist" in errors["q2"]
    assert "0.png cannot be read" in errors["q0"]
    assert errors["q5"] == "the row cannot be read"
    shown = sightline(*words)
    assert "Item q5 failed under none" in shown.err
    assert "in samples.jsonl" in shown.err
    shutil.copy(items.parent / "whole.png", items.parent / "0.png")
    assert sightline(*words, "--json").document == document
    again = sightline(*words, "--json", "--retry-failed").document
    assert [told["failed"] for told in again["methods"].values()] == [2, 2]


def test_items_that_only_one_method_answered_are_left_out_of_the_pair(
    sightline: Callable[..., Any], tiny: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, calls = VLM.generate_tokens, []

    def failing_once(self: VLM, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("odd")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(VLM, "generate_tokens", failing_once)
    document = sightline(
        "eval", tiny, "--bench", f"toy:{items}", *TWO, "--batch-size", 1, "--json", "--out", "run"
    ).document
    assert [told["failed"] for told in document["methods"].values()] == [1, 0]
    assert (document["paired"][0]["n"], document["paired"][0]["missing"]) == (7, 1)


def test_nothing_answered_is_an_error(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    for number in range(4):
        (items.parent / f"{number}.png").unlink()
    sentence = sightline("eval", tiny, "--bench", f"toy:{items}").sentence
    assert "Not one of 8 items of toy" in sentence
    assert "does not exist" in sentence


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--method", "pai:first_layer=7"), "7"),
        (("--method", "pai"), "2"),  # from layer 2 on, and the model has layers 0 and 1
        (("--method", "none", "--method", "var:dims=99"), "99"),
        (("--method", "var"), "sink dimensions"),
        (("--method", "vra"), "no method named 'vra'"),
        (("--method", "none", "--method", "none"), "name each once"),
        (("--method", PAI, "--method", PAI + ",gamma=1.1"), "are the same"),
        (("--bench", "tyo"), "no benchmark named 'tyo'"),
        (("--bench", "toy:"), "names no place"),
        (("--synonyms", "list.txt"), "takes no synonyms"),
        (("--batch-size", "0"), "neither auto nor"),
        (("--sinks", "none.json"), "none.json"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    sightline: Callable[..., Any],
    tiny: Path,
    items: Path,
    words: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(VLM, "generate_tokens", lambda *_, **__: pytest.fail("an item was asked"))
    ended = sightline("eval", tiny, "--bench", f"toy:{items}", "--out", "run", *words)
    assert ended.code == 2
    assert told in ended.sentence
    assert not Path("run").exists()


def test_one_id_for_two_items_is_refused(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    write(items, [*lines_of(items), lines_of(items)[0]])
    assert "2 items with the id 'q0'" in sightline("eval", tiny, "--bench", f"toy:{items}").sentence


def test_short_memory_makes_smaller_batches_for_good(
    sightline: Callable[..., Any], tiny: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, sizes = VLM.generate_tokens, []

    def short_of_memory(self: VLM, inputs: Any, **options: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(self, inputs, **options)

    words = ("eval", tiny, "--bench", f"toy:{items}", *TWO, "--new-tokens", 2)
    assert sightline(*words, "--out", "plain").code == 0
    monkeypatch.setattr(VLM, "generate_tokens", short_of_memory)
    assert sightline(*words, "--out", "run", "--batch-size", 8).code == 0
    assert sizes == [8, 4, 2, 2, 4, 2, 2, *[2] * 4]
    assert answers_in(Path("run")) == answers_in(Path("plain"))


def test_several_benchmarks_and_models(sightline: Callable[..., Any], tiny: Path, tmp_path: Path, items: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    words = ("eval", tiny, other, "--bench", f"toy:{items}", "--bench", "toy", "--limit", 2, "--out", "run")
    documents = sightline(*words, "--json").document["evaluations"]
    assert [(told["model"], told["path"]) for told in documents] == [
        (str(tiny), str(items)), (str(other), str(items)), (str(tiny), None), (str(other), None)
    ]  # fmt: skip
    assert documents[0]["methods"]["none"]["accuracy"] == documents[1]["methods"]["none"]["accuracy"]
    assert {path.name for path in Path("run").iterdir()} >= {"toy", "toy-2", "summary.json", "table.csv"}
    assert len(answers_in(Path("run/toy"))) == 2
    assert sightline(*words).out.count("official parser") == 4


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


def test_a_benchmark_is_data_for_other_commands(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    lines = lines_of(items)
    write(items, [*lines, {"id": "bad"}])
    words = ("measure", tiny, "--data", f"toy:{items}", "--queries", "prompt", "--out", "run")
    ended = sightline(*words, "--limit", 2, "--json")
    assert ended.document["samples"] == 2
    assert "1 items of toy" in ended.err
    assert {record.id for record in read_records("run")} == {"q0", "q1"}
    assert sightline(*words, "--limit", 3).code == 0
    write(items, [{**lines[0], "prompt": "How many?"}, *lines[1:]])
    assert "data_sha256" in sightline(*words, "--limit", 3).sentence
    assert sightline("sinks", tiny, "--data", "toy", "--limit", 2, "--tau", 3, "--json").code == 0


def test_run_json_tells_the_latest_command(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    words = ("eval", tiny, "--bench", f"toy:{items}", "--out", "run")
    for limit in (2, 6):
        assert sightline(*words, "--limit", limit).code == 0
        about = json.loads(Path("run/run.json").read_text())
        assert (about["info"]["limit"], about["info"]["items"]) == (limit, limit)
    assert about["settings"]["bench"] == "toy"
    assert any(name.startswith("content of") for name in about["settings"])  # what was pinned later is still there


def test_words_without_end_fail_alone(sightline: Callable[..., Any], tiny: Path, items: Path) -> None:
    """A JSON line of 10 MB, as damage makes it, costs neither minutes nor the other items their batch."""
    lines = lines_of(items)
    lines[3]["prompt"] = "red " * 2_500_000
    lines[6]["prompt"] = "how many " * 1_100  # more than the 2,048 positions of the model
    write(items, lines)
    document = sightline("eval", tiny, "--bench", f"toy:{items}", *TWO, "--out", "run", "--json").document
    assert [(told["n"], told["failed"]) for told in document["methods"].values()] == [(6, 2), (6, 2)]
    errors = {record.id: record.error for record in read_records("run") if record.error}
    assert set(errors) == {"q3", "q6"}
    assert all("words alone are more than 2,048 tokens" in str(error) for error in errors.values())
    assert Path("run/samples.jsonl").stat().st_size < 10_000


@pytest.mark.parametrize("damage", ["truncated", "of no kind"])
def test_damaged_parquet_among_whole_files_is_recorded(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "blink"
    assert sightline("shapes", "--bench", "blink", "--out", folder, "--count", 10).code == 0
    (broken,) = (folder / "Counting").glob("*.parquet")
    broken.write_bytes(broken.read_bytes()[:600] if damage == "truncated" else b"no parquet at all")
    ended = sightline("eval", tiny, "--bench", f"shapes-blink:{folder}", *TWO, "--out", "run", "--json")
    for told in ended.document["methods"].values():
        assert (told["n"], told["failed"]) == (8, 1)
        assert "Counting" not in told["subtasks"]
    assert "Item Counting/val-00000-of-00001.parquet failed under none" in ended.err
    for other in folder.glob("*/*.parquet"):
        other.write_bytes(other.read_bytes()[:600])
    assert "a whole file is expected" in sightline("eval", tiny, "--bench", f"shapes-blink:{folder}").sentence


def test_a_prompt_of_several_lines(
    sightline: Callable[..., Any], tiny: Path, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr("sightline.jobs.evaluate.evaluate", lambda *_, **options: given.append(options) or 1 / 0)
    sightline("eval", tiny, "--bench", f"toy:{items}", "--prompt", "{question}\\nyes or no?")
    assert given[0]["template"] == "{question}\nyes or no?"


def test_a_folder_of_several_runs_is_not_written_over(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, items: Path
) -> None:
    two = ("eval", tiny, "--bench", f"toy:{items}", "--bench", "toy", "--limit", 2, "--out", "run")
    assert sightline(*two).code == 0
    summary = Path("run/summary.json").read_bytes()
    sentence = sightline("eval", tiny, "--bench", f"toy:{items}", "--out", "run").sentence
    assert "run holds run folders: give --out run/toy to continue that" in sentence
    assert "give one of them, such as run/toy, run/toy-2" in sightline("score", "toy", "--answers", "run").sentence
    assert Path("run/summary.json").read_bytes() == summary
    assert sightline("eval", tiny, "--bench", f"toy:{items}", "--out", "run/toy", "--limit", 2).code == 0


def test_where_less_is_better_the_heading_says_so(sightline: Callable[..., Any], tiny: Path) -> None:
    ended = sightline("eval", tiny, "--bench", "shapes-chair", "--limit", 2, "--new-tokens", 2, "--out", "run")
    assert "official parser; smaller is better" in ended.out
