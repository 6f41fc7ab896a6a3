"""What a result can do: be drawn, set in LaTeX, compared, saved and read back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sightline as sl
from sightline.errors import InputError
from sightline.jobs.evaluation import Evaluation
from sightline.jobs.measurement import Measurement
from sightline.results.latex import escaped


@pytest.fixture(scope="module")
def measured() -> Measurement:
    return sl.measure("tiny-llava", "shapes", method="vaf", limit=4, new_tokens=4, maps=0)


@pytest.fixture(scope="module")
def evaluated() -> Evaluation:
    return sl.evaluate("tiny-llava-early", ["shapes-pope"], methods=["none", sl.VCD()], limit=24)


def test_a_figure_is_written_as_its_name_says(measured: Measurement, tmp_path: Path) -> None:
    for by in ("layer", "stage"):
        axes = measured.plot(by=by, metric="aei", width="page")
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["tiny-llava", "tiny-llava vaf"]
        for kind in ("pdf", "svg", "png"):
            assert sl.save_figure(axes, tmp_path / f"{by}.{kind}").stat().st_size > 1000
    assert b"/FontFile2" in (tmp_path / "layer.pdf").read_bytes(), "words in the PDF stay words of an embedded font"
    assert "<text" in (tmp_path / "layer.svg").read_text()
    with pytest.raises(InputError, match=r"end it in \.pdf, \.svg, \.png"):
        sl.save_figure(axes, tmp_path / "figure.gif")


def test_lines_of_a_figure_differ_in_more_than_colour(measured: Measurement) -> None:
    one, other, *_ = measured.plot().lines
    assert one.get_linestyle() != other.get_linestyle()
    assert one.get_marker() != other.get_marker()


def test_a_forest_has_a_line_a_method(evaluated: Evaluation) -> None:
    axes = evaluated.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["vcd, shapes-pope"]
    assert len(evaluated.plot(metric="score").get_yticklabels()) == 2


@pytest.mark.parametrize("wrong", [{"metric": "beauty"}, {"by": "moon"}, {"style": "baroque"}, {"width": "mile"}])
def test_a_figure_that_there_is_not_is_one_sentence(measured: Measurement, wrong: dict[str, str]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong.values()))):
        measured.plot(**wrong)  # type: ignore[arg-type]


def test_latex_tables_balance_and_escape(measured: Measurement, evaluated: Evaluation) -> None:
    for text in (measured.to_latex(), evaluated.to_latex()):
        assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") > 0
        for body in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
            rows = [line for line in body[1].splitlines() if line.endswith(r"\\")]
            assert all(len(re.findall(r"(?<!\\)&", row)) == len(body[0]) - 1 for row in rows)
        bare = re.sub(r"\\[a-zA-Z]+(\{[a-z}]*)?|\\[&%$#_{}]", "", text)
        assert not re.search(r"[#~^]|(?<!\$)\\(?!\\)", bare.replace(r"\\", ""))
    assert escaped("50% of a_b & {c}") == r"50\% of a\_b \& \{c\}"


def test_a_comparison_is_paired_and_adjusted(measured: Measurement) -> None:
    table = measured.compare()
    assert list(table["stage"]) == ["early", "middle", "late"]
    assert (table["n"] == 4).all()
    assert ((table["mean_b"] - table["mean_a"]) - table["difference"]).abs().max() < 1e-9
    assert (table["p_holm"] >= table["p_value"]).all()
    same = measured.compare(measured)
    assert (same["difference"] == 0).all()
    assert (same["p_value"] == 1).all()


def test_two_models_of_one_evaluation_stand_against_each_other() -> None:
    found = sl.evaluate(["tiny-llava", "tiny-llava-early"], "shapes-pope", methods=["none"], limit=12)
    (pair,) = found.to_dict()["models_paired"]
    assert (pair["a"], pair["b"], pair["n"]) == ("tiny-llava", "tiny-llava-early", 12)
    assert pair["delta"] <= 0
    first, second = (sl.evaluate(name, "shapes-pope", limit=12) for name in ("tiny-llava", "tiny-llava-early"))
    row = first.compare(second).iloc[0]
    assert (row["delta"], row["flips"]) == (pair["delta"], pair["flips"])


def test_what_is_saved_is_read_back(measured: Measurement, evaluated: Evaluation, tmp_path: Path) -> None:
    again = sl.read_run(measured.save(tmp_path / "measure"))
    assert again.to_dict() == measured.to_dict()
    found = sl.read_run(evaluated.save(tmp_path / "eval"))
    ours, theirs = evaluated.to_dict(), found.to_dict()
    assert theirs["methods"] == ours["methods"]
    assert theirs["paired"] == ours["paired"]
    assert (tmp_path / "eval" / "table.tex").exists()


def test_what_is_no_run_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        sl.read_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is no run folder"):
        sl.read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        sl.read_run(tmp_path)
