"""sightline report: from a run to the one file, and one sentence where there is no run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.pages.contents import contents
from sightline.pages.reading import read_runs
from sightline.probes.dominance import SampleMaps

Cli = Callable[..., Any]


@pytest.fixture
def measured(sightline: Cli, tiny: Path, data: Path, idle: str) -> Path:
    """A run folder of four samples, one of which failed, without and with a method."""
    ended = sightline("measure", tiny, "--data", data, "--out", "run", "--method", idle, "--new-tokens", 3, "--maps", 2)
    assert ended.code == 0, ended.err
    return data.parent / "run"


def test_a_run_becomes_a_page(sightline: Cli, measured: Path) -> None:
    ended = sightline("report", measured, "--json")
    assert ended.document == {
        "report": str(measured / "report.html"),
        "bytes": (measured / "report.html").stat().st_size,
        "runs": [str(measured)],
    }
    told = contents(read_runs([measured]))
    assert [len(sample["variants"]) for sample in told["samples"]] == [2, 2, 2, 2]
    first, _, *others = told["samples"]
    (method,) = [row["values"][0] for row in told["settings"] if row["name"] == "method"]
    assert [variant["name"] for variant in first["variants"]] == ["tiny", f"tiny · {method}"]
    assert first["prompt"] == "Is there a red circle?"
    assert first["truth"] == "yes"
    assert first["images"][0]["width"] == 40
    maps = first["variants"][0]["maps"]
    assert len(maps["words"]) == len(maps["grounding"])
    assert (maps["grids"][0]["rows"], maps["grids"][0]["cols"]) == (3, 3)
    errors = [sample["variants"][0].get("error") for sample in others]
    assert any(error and "missing.png" in error for error in errors)
    assert "Maps were kept of 2 of 4 samples." in told["runs"][0]["notes"]


def test_maps_agree_with_the_masses_that_were_measured(sightline: Cli, tiny: Path, data: Path) -> None:
    # The row of an end token has masses and no map; the first row of this answer is another's.
    assert sightline("measure", tiny, "--data", data, "--out", "one", "--new-tokens", 1).code == 0
    record = next(record for record in read_runs([data.parent / "one"])[0].records if record.id == "s1")
    assert record.result is not None
    maps, dominance = SampleMaps.from_dict(record.result["maps"]), record.result["dominance"]
    assert dominance["rows"] == maps.mean.shape[0] == 1
    for place, layer in enumerate(dominance["layers"]):
        text = maps.mean[:, place, : len(maps.positions)].sum(-1).mean()
        assert text == pytest.approx(layer["masses"]["text"], rel=0.02)


def test_a_continued_run_keeps_what_is_there(sightline: Cli, tiny: Path, data: Path, measured: Path, idle: str) -> None:
    before = (measured / "samples.jsonl").read_bytes()
    ended = sightline("measure", tiny, "--data", data, "--out", "run", "--method", idle, "--new-tokens", 3, "--maps", 0)
    assert ended.code == 0, ended.err
    assert (measured / "samples.jsonl").read_bytes() == before


def test_maps_change_no_number(sightline: Cli, tiny: Path, data: Path) -> None:
    common = ("measure", tiny, "--data", data, "--new-tokens", 3, "--json")
    with_maps = sightline(*common, "--out", "with").document
    without = sightline(*common, "--out", "without", "--maps", 0).document
    assert with_maps == without
    lines = [json.loads(line) for line in (data.parent / "without" / "samples.jsonl").read_text().splitlines()]
    assert all("maps" not in line["result"] for line in lines if "result" in line)


def test_errors_are_one_sentence(sightline: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no run folder" in sightline("report", "empty").sentence
    assert "does not exist" in sightline("report", "gone").sentence
    run = tmp_path / "torn"
    run.mkdir()
    (run / "run.json").write_text("{")
    assert "damaged" in sightline("report", run).sentence
    (run / "run.json").write_text('{"command": "measure", "settings": {}}')
    (run / "samples.jsonl").write_text('{"id": "a", "error": "no image"}\n')
    assert "is a folder" in sightline("report", run, "--out", "empty").sentence
    assert sightline("report", run).code == 0


def test_a_run_that_has_nothing_yet_is_passed_over_beside_others(sightline: Cli, measured: Path) -> None:
    begun = measured.parent / "begun"
    begun.mkdir()
    (begun / "run.json").write_bytes((measured / "run.json").read_bytes())
    ended = sightline("report", measured, begun, "--out", "page.html", "--json")
    assert ended.document["runs"] == [str(measured)]
    assert "Passed over" in ended.err
    assert "no sample yet" in ended.err
    alone = sightline("report", begun)
    assert alone.code == 2
    assert "no sample yet" in alone.sentence


def test_figures_for_a_paper_are_those_of_plot(sightline: Cli, measured: Path) -> None:
    ended = sightline("report", measured, "--figures", "pdf", "--json")
    names = [Path(path).name for path in ended.document["figures"]]
    assert names == ["paper_mdi_by_layer.pdf", "paper_mdi_by_stage.pdf", "paper_aei_by_layer.pdf"]
    for path in map(Path, ended.document["figures"]):
        assert path.parent == measured / "figures"
        assert b"/FontFile2" in path.read_bytes()
