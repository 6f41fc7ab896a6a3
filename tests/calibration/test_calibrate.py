"""`sl.calibrate` on a few scenes: what is planted is found, what knows nothing is not, and a run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import sightline as sl
from sightline.calibration.cases import insertion_cases
from sightline.calibration.instruments import INSTRUMENTS, Instrument
from sightline.calibration.subject import Subject
from sightline.calibration.truths import TRUTHS, follows_picture, models_with_truth
from sightline.cli.main import cli
from sightline.zoo import BUNDLED

FEW = ("sink finder", "attention map", "random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrate") / "run"


@pytest.fixture(scope="module")
def found(folder: Path) -> sl.Calibration:
    return sl.calibrate("tiny-sinks", instruments=FEW, scenes=4, parts="instruments", out=folder)


def value(found: Any, truth: str, instrument: str) -> float:
    (row,) = [row for row in found.to_dict()["instruments"] if (row["truth"], row["instrument"]) == (truth, instrument)]
    return float(row["value"])


def test_the_sink_finder_finds_what_is_planted_and_chance_does_not(found: sl.Calibration) -> None:
    assert value(found, "dims", "sink finder") == 1.0
    assert value(found, "sinks", "sink finder") == 1.0
    assert 0.8 < value(found, "sinks", "attention map") < 1.0
    assert 0.2 < value(found, "sinks", "random") < 0.8


def test_every_row_says_what_is_true_what_was_read_and_what_it_cost(found: sl.Calibration) -> None:
    rows = found.to_dict()["instruments"]
    assert {row["truth"] for row in rows} >= {"sinks", "heads", "dims"}
    for row in rows:
        assert row["positive"]
        assert row["metric"] in ("AUROC", "share exact")
        assert row["n"] >= 1
        assert row["is_control"] == (row["instrument"] == "random")
    by_name = {row["instrument"]: row["passes"] for row in rows if row["truth"] == "sinks"}
    assert by_name["attention map"] == 1.0


def test_a_finished_run_is_read_and_not_repeated_and_takes_another_instrument(
    found: sl.Calibration, folder: Path
) -> None:
    before = (folder / "samples.jsonl").read_text().splitlines()
    settings: dict[str, Any] = {"scenes": 4, "parts": "instruments", "out": folder}
    more = sl.calibrate("tiny-sinks", instruments=(*FEW, "MDI"), **settings)
    lines = (folder / "samples.jsonl").read_text().splitlines()
    assert lines[: len(before)] == before
    assert {json.loads(line)["method"] for line in lines[len(before) :]} == {"MDI"}
    kept = [row for row in more.to_dict()["instruments"] if row["instrument"] != "MDI"]
    assert kept == found.to_dict()["instruments"]
    assert (folder / "figures" / "calibration.png").stat().st_size > 1000


def test_a_calibration_is_read_back_in_long_form(found: sl.Calibration, folder: Path) -> None:
    again = sl.read_run(folder)
    assert isinstance(again, sl.Calibration)
    known = [row for row in again.to_dict()["instruments"] if row["instrument"] != "MDI"]
    assert known == found.to_dict()["instruments"]
    (row,) = again.to_pandas().query("id == 'dims' and instrument == 'sink finder'").to_dict("records")
    assert (row["value"], row["metric"], row["model"]) == (1.0, "share exact", "tiny-sinks")


def test_the_result_is_a_table_a_page_and_a_figure(found: sl.Calibration) -> None:
    assert set(found.to_pandas()["instrument"].dropna()) <= set(INSTRUMENTS)
    page = found.to_markdown()
    assert "| sink finder | tiny-sinks | 1.00 |" in page
    assert "small models" in page
    axes = found.plot(truth="sinks")
    assert next(label.get_text() for label in axes.get_yticklabels()) == "sink finder"
    with pytest.raises(sl.InputError, match="no truth 'moods'"):
        found.plot(truth="moods")


def test_the_command_prints_the_same_document(
    found: sl.Calibration, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [option for name in FEW for option in ("--instrument", name)]
    with pytest.raises(SystemExit) as ended:
        cli.main(
            ["calibrate", "tiny-sinks", *options, "--scenes=4", "--parts=instruments", "--json", f"--out={folder}"],
            prog_name="sightline",
        )
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out) == found.to_dict()


def test_the_ends_of_the_dial_follow_the_picture_and_do_not() -> None:
    cases = insertion_cases("follows", 6, 0)
    for name, least, most in (("tiny-reliance-000", 0.8, 1.0), ("tiny-reliance-100", 0.0, 0.2)):
        subject = Subject(sl.load(name, dtype="float32"))
        labels = [follows_picture(subject, case)["labels"][0] for case in cases]
        assert least <= sum(labels) / len(labels) <= most, name


def test_methods_stand_beside_their_controls() -> None:
    found = sl.calibrate("tiny-sinks", quick=True, scenes=4, parts="methods").to_dict()["methods"]
    names = {each["method"]: each["is_control"] for each in found}
    assert {"var": False, "var_random": True, "mask_sinks": False}.items() <= names.items()
    with_fields = {name for name, is_control in names.items() if ":" in name and not is_control}
    assert with_fields == {"var:rho=0.95,summ=0.0,p=0.0"}
    for each in found:
        assert each["n"] == 4
        assert each["points"] == pytest.approx(25 * (each["mended"] - each["broken"]))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"models": "tiny-lama"}, "No truth is known of tiny-lama"),
        ({"instruments": ["MID"]}, "no instrument named 'MID'"),
        ({"scenes": 2}, "whole number from 4 on"),
        ({"parts": "some"}, "parts is 'some'"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_any_work(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(sl.InputError, match=sentence):
        sl.calibrate(**given)


@pytest.mark.parametrize("instrument", INSTRUMENTS.values(), ids=list(INSTRUMENTS))
def test_each_instrument_reads_something_and_says_what(instrument: Instrument) -> None:
    units: tuple[Any, ...] = ("answer", "word", "patch", "token", "head", "dims")
    assert any(type(instrument).reads(unit) for unit in units)
    assert instrument.about


def test_every_model_of_a_truth_is_bundled_or_yet_to_come() -> None:
    assert set(models_with_truth()) <= set(BUNDLED)
    assert {"tiny-half", "tiny-binding", "tiny-sinks", "tiny-llava-early"} <= {
        model for truth in TRUTHS for model in truth.models
    }
