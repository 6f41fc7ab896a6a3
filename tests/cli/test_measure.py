"""sightline measure: its document, its run folder, and that it continues where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.models.vlm import VLM
from sightline.models.vlm.fingerprint import WHOLE, folder_fingerprint
from sightline.runs.records import read_records

FEW = ("--new-tokens", 3)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("drawn")
def test_the_document_and_the_folder(sightline: Callable[..., Any], tiny: Path) -> None:
    ended = sightline("measure", tiny, "--data", "shapes", "--limit", 3, "--out", "run", "--json", *FEW)
    document = ended.document
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


def test_tables_without_json(sightline: Callable[..., Any], tiny: Path) -> None:
    ended = sightline("measure", tiny, "--data", "shapes", "--limit", 2, "--stages", "thirds", *FEW)
    assert ended.code == 0
    for word in ("2 samples", "MDI", "AEI", "Stages", "early", "middle", "late", "95% interval"):
        assert word in ended.out
    (folder,) = Path("runs").iterdir()
    assert str(folder) in ended.err
    assert len(read_records(folder)) == 2


@pytest.mark.parametrize("queries", ["prompt", "all"])
def test_other_query_sets(sightline: Callable[..., Any], tiny: Path, picture: Path, queries: str) -> None:
    ended = sightline(
        "measure", tiny, "--image", picture, "--prompt", "What do you see?", "--queries", queries, "--json"
    )
    assert ended.document["queries"] == queries
    assert ended.document["text"] is None


def test_one_sample_is_only_printed(sightline: Callable[..., Any], tiny: Path, picture: Path) -> None:
    ended = sightline("measure", tiny, "--image", picture, "--prompt", "Is there a red circle?", "--json", *FEW)
    assert ended.document["samples"] == 1
    assert isinstance(ended.document["text"], str)
    assert not Path("runs").exists()
    two = ("--image", picture, "--image", picture)
    ended = sightline("measure", tiny, *two, "--prompt", "What?", "--json", "--out", "kept", *FEW)
    assert ended.document["tokens"]["image"] == 18.0
    assert Path("kept/summary.json").exists()


def test_bad_samples_are_recorded_and_passed_over(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    words = ("measure", tiny, "--data", data, "--out", "run", "--json", *FEW)
    first = sightline(*words).document
    assert (first["samples"], first["failed"]) == (3, 1)
    errors = {line["id"]: line.get("error") for line in lines_of(Path("run"))}
    assert "missing.png does not exist" in errors["s3"]
    assert "Sample s3 failed" in sightline(*words).err
    assert sum(error is None for error in errors.values()) == 3
    shutil.copy(data.parent / "picture.png", data.parent / "missing.png")
    assert sightline(*words).document == first
    again = sightline(*words, "--retry-failed").document
    assert (again["samples"], again["failed"]) == (4, 0)
    assert len(lines_of(Path("run"))) == 5


def test_a_batch_gives_what_single_samples_give(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    words = ("measure", tiny, "--data", data, "--json", "--dtype", "float32", *FEW)
    one = sightline(*words, "--batch-size", 1).document
    for size in ((), ("--batch-size", 4)):
        many = sightline(*words, *size).document
        assert (many["samples"], many["failed"]) == (3, 1)
        for stage, figures in one["stages"].items():
            assert many["stages"][stage]["mdi"] == pytest.approx(figures["mdi"], abs=1e-5)


def test_cut_anywhere_it_ends_the_same(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    words = ("measure", tiny, "--data", data, "--out", "run", "--json", "--batch-size", 1, *FEW)
    whole = sightline(*words).document
    samples = Path("run/samples.jsonl")
    content = samples.read_bytes()
    for size in (0, content.index(b"\n"), content.index(b"\n") + 1, len(content) - 1):
        samples.write_bytes(content[:size])
        assert sightline(*words).document == whole
        assert [line["id"] for line in lines_of(Path("run"))] == ["s1", "s2", "s3", "s4"]


def test_a_finished_run_is_read_and_not_done_again(
    sightline: Callable[..., Any], tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("measure", tiny, "--data", data, "--out", "run", *FEW)
    sightline(*words, "--limit", 2)
    with monkeypatch.context() as patch:
        patch.setattr("sightline.jobs.models.load_model", lambda *_: pytest.fail("the model was loaded"))
        assert sightline(*words, "--limit", 2, "--json").document["samples"] == 2
        assert sightline(*words, "--limit", 1, "--json").document["samples"] == 1
    assert sightline(*words, "--json").document["samples"] == 3


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (("--queries", "all"), "queries"),
        (("--new-tokens", 4), "new_tokens"),
        (("--seed", 1), "seed"),
        (("--dtype", "bfloat16"), "dtype"),
    ],
)
def test_other_settings_are_refused_by_name(
    sightline: Callable[..., Any], tiny: Path, data: Path, changes: tuple[Any, ...], name: str
) -> None:
    words = ("measure", tiny, "--data", data, "--out", "run", "--limit", 1, *FEW)
    assert sightline(*words).code == 0
    ended = sightline(*words, *changes)
    assert ended.code == 2
    assert f"{name} = " in ended.sentence


def test_other_content_under_the_same_name_is_refused(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    words = ("measure", tiny, "--data", data, "--out", "run", "--limit", 1, *FEW)
    assert sightline(*words).code == 0
    data.write_text(data.read_text().replace("red", "green"))
    assert "data_sha256" in sightline(*words).sentence


def test_other_weights_in_the_same_folder_are_refused(
    sightline: Callable[..., Any], tiny: Path, tmp_path: Path, data: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny, model)
    words = ("measure", model, "--data", data, "--queries", "prompt", "--out", "run")
    assert sightline(*words, "--limit", 1).code == 0
    kept = Path("run/samples.jsonl").read_bytes()
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for limit in (1, 2):
        refused = sightline(*words, "--limit", limit)
        assert refused.code == 2
        assert f"content of {model}" in refused.sentence
    assert Path("run/samples.jsonl").read_bytes() == kept
    weights.write_bytes(content)
    assert sightline(*words, "--limit", 2).code == 0


def test_large_weights_are_told_apart_by_samples_of_them(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(WHOLE + 1))
    before = folder_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("not part of the model")
    assert folder_fingerprint(tmp_path) == before
    weights.write_bytes(bytes(WHOLE) + b"1")
    assert folder_fingerprint(tmp_path) != before


def test_several_models_share_a_table(sightline: Callable[..., Any], tiny: Path, tmp_path: Path, data: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    words = ("measure", tiny, other, "--data", data, "--limit", 2, "--out", "run", *FEW)
    documents = sightline(*words, "--json").document["models"]
    assert [document["model"] for document in documents] == [str(tiny), str(other)]
    assert documents[0]["layers"] == documents[1]["layers"]
    assert {line["model"] for line in lines_of(Path("run"))} == {str(tiny), str(other)}
    assert "MDI by layer" in sightline(*words).out


def test_a_method_stands_beside_none(sightline: Callable[..., Any], tiny: Path, data: Path, idle: str) -> None:
    words = ("measure", tiny, "--data", data, "--limit", 2, "--out", "run", "--method", idle, *FEW)
    document = sightline(*words, "--json").document
    assert document["method"] == idle
    assert document["baseline"]["method"] == "none"
    assert document["baseline"]["layers"] == document["layers"]
    assert "nothing:strength=0.25" in sightline(*words).out
    assert "method" in sightline(*words[:-4], *FEW).sentence


def test_published_figures_stand_beside(sightline: Callable[..., Any], tiny: Path, data: Path) -> None:
    words = ("measure", tiny, "--data", data, "--limit", 2, "--published", "llava-1.5-7b", *FEW)
    rows = sightline(*words, "--json").document["published"]
    assert {row["stage"] for row in rows} == {"early", "middle", "late"}
    assert "Published" in sightline(*words).out


def test_memory_that_is_short_makes_smaller_blocks(
    sightline: Callable[..., Any], tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sightline.attention import block_bytes

    budgets: list[int] = []
    generate = VLM.generate_tokens

    def short_of_memory(self: VLM, *arguments: Any, **options: Any) -> Any:
        budgets.append(block_bytes())
        if block_bytes() > 8 * 2**20:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
        return generate(self, *arguments, **options)

    monkeypatch.setattr(VLM, "generate_tokens", short_of_memory)
    words = ("measure", tiny, "--data", data, "--limit", 2, "--json", *FEW)
    assert sightline(*words).document["samples"] == 2
    assert budgets[0] > 8 * 2**20
    assert budgets[-2] == budgets[-1] <= 8 * 2**20


def test_memory_that_never_suffices_is_that_samples_error(
    sightline: Callable[..., Any], tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = VLM.generate_tokens

    def always_short(self: VLM, inputs: Any, **options: Any) -> Any:
        if inputs["input_ids"].shape[1] > 17:
            raise MemoryError("16 GiB")
        return generate(self, inputs, **options)

    monkeypatch.setattr(VLM, "generate_tokens", always_short)
    document = sightline("measure", tiny, "--data", data, "--out", "run", "--json", *FEW).document
    assert document["failed"] >= 2
    assert "MemoryError: 16 GiB" in {line.get("error") for line in lines_of(Path("run"))}


def test_stopped_from_the_keyboard_it_says_how_to_go_on(
    sightline: Callable[..., Any], tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, calls = VLM.generate_tokens, []

    def interrupted(self: VLM, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, *arguments, **options)

    monkeypatch.setattr(VLM, "generate_tokens", interrupted)
    words = ("measure", tiny, "--data", data, "--out", "run", "--json", "--batch-size", 1, *FEW)
    ended = sightline(*words)
    assert ended.code == 1
    assert "1 samples are in run" in ended.sentence
    assert "--out run" in ended.sentence
    assert sightline(*words).document["samples"] == 3


def test_a_process_does_what_the_others_left(
    sightline: Callable[..., Any], tiny: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("measure", tiny, "--data", data, "--json", *FEW)
    alone = sightline(*words, "--out", "alone").document
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert sightline(*words, "--out", "shared").document == alone
    monkeypatch.setenv("RANK", "0")
    assert sightline(*words, "--out", "shared").document == alone
    lines = [len(path.read_text().splitlines()) for path in sorted(Path("shared").glob("samples*"))]
    assert sorted(lines) == [0, 4]
    assert "give" in sightline(*words).sentence


def test_a_failure_before_the_first_sample_leaves_no_folder(sightline: Callable[..., Any], data: Path) -> None:
    ended = sightline("measure", "./no-such-model", "--data", data, "--out", "run")
    assert ended.code == 2
    assert not Path("run").exists()
