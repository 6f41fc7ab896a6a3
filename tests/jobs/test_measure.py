"""sl.measure: what a run folder holds, that it goes on where it stopped, and what fails alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.attention import block_bytes
from sightline.errors import InputError
from sightline.models.vlm import VLM
from sightline.models.vlm.fingerprint import WHOLE, folder_fingerprint
from support.runs import lines_of

NO_MODEL = "sightline.jobs.models.load_model"


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The document of a measurement of three new tokens, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def measure(model: Any, data: Any, **fields: Any) -> dict[str, Any]:
        names = [str(each) for each in model] if isinstance(model, tuple) else str(model)
        data = str(data) if isinstance(data, Path) else data
        return sl.measure(names, data, **{"new_tokens": 3, **fields}).to_dict()

    return measure


Measured = Callable[..., dict[str, Any]]


@pytest.mark.usefixtures("drawn")
def test_the_document_and_the_folder(measured: Measured, tiny: Path) -> None:
    document = measured(tiny, "shapes", limit=3, out="run")
    assert document["model"] == str(tiny)
    assert (document["queries"], document["samples"], document["failed"]) == ("generated", 3, 0)
    assert document["tokens"]["image"] == 9.0
    assert [layer["layer"] for layer in document["layers"]] == [0, 1]
    fields = {"mdi", "mdi_std", "aei", "aei_std", "mdi_no_sinks", "text_mass", "image_mass"}
    assert fields <= document["layers"][0].keys()
    assert document["stages"].keys() == {"early", "middle", "late"}
    low, high = document["stages"]["late"]["mdi_ci95"]
    assert low <= document["stages"]["late"]["mdi"] <= high
    assert json.loads(Path("run/summary.json").read_text()) == document
    assert {line["id"] for line in lines_of(Path("run"))} == {"shapes-0-0", "shapes-0-1", "shapes-0-2"}
    assert document["batch_size"] == json.loads(Path("run/run.json").read_text())["info"]["batches"][str(tiny)] > 1
    assert json.loads(Path("run/run.json").read_text())["settings"]["queries"] == "generated"
    figures = {path.name for path in Path("run/figures").iterdir()}
    assert figures == {f"{name}.{kind}" for name in ("mdi_by_layer", "stages") for kind in ("png", "svg")}


@pytest.mark.parametrize("queries", ["prompt", "all"])
def test_other_query_sets(measured: Measured, tiny: Path, picture: Path, queries: str) -> None:
    document = measured(tiny, sl.Sample(prompt="What do you see?", images=(picture,)), queries=queries)
    assert document["queries"] == queries
    assert document["text"] is None


def test_bad_samples_are_recorded_and_passed_over(measured: Measured, tiny: Path, data: Path) -> None:
    first = measured(tiny, data, out="run")
    assert (first["samples"], first["failed"]) == (3, 1)
    errors = {line["id"]: line.get("error") for line in lines_of(Path("run"))}
    assert "missing.png does not exist" in errors["s3"]
    assert sum(error is None for error in errors.values()) == 3
    shutil.copy(data.parent / "picture.png", data.parent / "missing.png")
    assert measured(tiny, data, out="run") == first
    again = measured(tiny, data, out="run", retry_failed=True)
    assert (again["samples"], again["failed"]) == (4, 0)
    assert len(lines_of(Path("run"))) == 5


def test_a_batch_gives_what_single_samples_give(measured: Measured, tiny: Path, data: Path) -> None:
    one = measured(tiny, data, dtype="float32", batch_size=1)
    for size in ({}, {"batch_size": 4}):
        many = measured(tiny, data, dtype="float32", **size)
        assert (many["samples"], many["failed"]) == (3, 1)
        for stage, figures in one["stages"].items():
            assert many["stages"][stage]["mdi"] == pytest.approx(figures["mdi"], abs=1e-5)


def test_cut_anywhere_it_ends_the_same(measured: Measured, tiny: Path, data: Path) -> None:
    whole = measured(tiny, data, out="run", batch_size=1)
    samples = Path("run/samples.jsonl")
    content = samples.read_bytes()
    for size in (0, content.index(b"\n"), content.index(b"\n") + 1, len(content) - 1):
        samples.write_bytes(content[:size])
        assert measured(tiny, data, out="run", batch_size=1) == whole
        assert [line["id"] for line in lines_of(Path("run"))] == ["s1", "s2", "s3", "s4"]


def test_a_finished_run_is_read_and_not_done_again(
    measured: Measured, tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(tiny, data, out="run", limit=2)
    with monkeypatch.context() as patch:
        patch.setattr(NO_MODEL, lambda *_: pytest.fail("the model was loaded"))
        assert measured(tiny, data, out="run", limit=2)["samples"] == 2
        assert measured(tiny, data, out="run", limit=1)["samples"] == 1
    assert measured(tiny, data, out="run")["samples"] == 3


def test_other_settings_are_refused_by_name(measured: Measured, tiny: Path, data: Path) -> None:
    measured(tiny, data, out="run", limit=1)
    for name, value in {"queries": "all", "new_tokens": 4, "seed": 1, "dtype": "bfloat16"}.items():
        with pytest.raises(sl.InputError, match=f"{name} = "):
            measured(tiny, data, out="run", limit=1, **{name: value})


def test_other_content_under_the_same_name_is_refused(measured: Measured, tiny: Path, data: Path) -> None:
    measured(tiny, data, out="run", limit=1)
    data.write_text(data.read_text().replace("red", "green"))
    with pytest.raises(sl.InputError, match="data_sha256"):
        measured(tiny, data, out="run", limit=1)


def test_other_weights_in_the_same_folder_are_refused(
    measured: Measured, tiny: Path, tmp_path: Path, data: Path
) -> None:
    model = shutil.copytree(tiny, tmp_path / "model")
    fields = {"queries": "prompt", "out": "run"}
    measured(model, data, **fields, limit=1)
    kept = Path("run/samples.jsonl").read_bytes()
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for limit in (1, 2):
        with pytest.raises(sl.InputError, match=f"content of {model}"):
            measured(model, data, **fields, limit=limit)
    assert Path("run/samples.jsonl").read_bytes() == kept
    weights.write_bytes(content)
    assert measured(model, data, **fields, limit=2)["samples"] == 2


def test_large_weights_are_told_apart_by_samples_of_them(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(WHOLE + 1))
    before = folder_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("not part of the model")
    assert folder_fingerprint(tmp_path) == before
    weights.write_bytes(bytes(WHOLE) + b"1")
    assert folder_fingerprint(tmp_path) != before


def test_several_models_share_a_run(measured: Measured, tiny: Path, tmp_path: Path, data: Path) -> None:
    other = shutil.copytree(tiny, tmp_path / "other")
    documents = measured((tiny, other), data, limit=2, out="run")["models"]
    assert [document["model"] for document in documents] == [str(tiny), str(other)]
    assert documents[0]["layers"] == documents[1]["layers"]
    assert {line["model"] for line in lines_of(Path("run"))} == {str(tiny), str(other)}


def test_a_method_stands_beside_none(measured: Measured, tiny: Path, data: Path, idle: str) -> None:
    document = measured(tiny, data, limit=2, out="run", method=idle)
    assert document["method"] == idle
    assert document["baseline"]["method"] == "none"
    assert document["baseline"]["layers"] == document["layers"]
    with pytest.raises(sl.InputError, match="method"):
        measured(tiny, data, limit=2, out="run")


def test_published_figures_stand_beside(measured: Measured, tiny: Path, data: Path) -> None:
    rows = measured(tiny, data, limit=2, published="llava-1.5-7b")["published"]
    assert {row["stage"] for row in rows} == {"early", "middle", "late"}


def test_memory_that_is_short_makes_smaller_blocks(
    measured: Measured, tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[int] = []
    generate = VLM.generate_tokens

    def short_of_memory(self: VLM, *arguments: Any, **options: Any) -> Any:
        budgets.append(block_bytes())
        if block_bytes() > 8 * 2**20:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(VLM, "generate_tokens", short_of_memory)
    assert measured(tiny, data, limit=2)["samples"] == 2
    assert budgets[0] > 8 * 2**20
    assert budgets[-2] == budgets[-1] <= 8 * 2**20


def test_memory_that_never_suffices_is_that_samples_error(
    measured: Measured, tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = VLM.generate_tokens

    def always_short(self: VLM, inputs: Any, **options: Any) -> Any:
        if inputs["input_ids"].shape[1] > 17:
            raise MemoryError("16 GiB")
        return generate(self, inputs, **options)

    monkeypatch.setattr(VLM, "generate_tokens", always_short)
    assert measured(tiny, data, out="run")["failed"] >= 2
    assert "MemoryError: 16 GiB" in {line.get("error") for line in lines_of(Path("run"))}


def test_a_process_does_what_the_others_left(
    measured: Measured, tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = measured(tiny, data, out="alone", batch_size=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert measured(tiny, data, out="shared", batch_size=1) == alone
    lines = [len(path.read_text().splitlines()) for path in sorted(Path("shared").glob("samples*"))]
    assert sorted(lines) == [0, 4]
    with pytest.raises(sl.InputError, match="share one run folder"):
        measured(tiny, data)


def test_a_failure_before_the_first_sample_leaves_no_folder(measured: Measured, data: Path) -> None:
    with pytest.raises(sl.InputError, match="does not exist"):
        measured("./no-such-model", data, out="run")
    assert not Path("run").exists()


def test_two_methods_at_once_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match="takes one method at a time"):
        sl.measure("tiny-llava", data, method=["vcd", "pai"])
