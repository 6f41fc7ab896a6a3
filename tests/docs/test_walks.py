"""Pages that walk somebody through are walked: their Python runs, their methods exist, their figures were measured."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from docs.pages import ROOT
from sightline.methods.base import parse_spec
from sightline.methods.registry import known_methods

DOCS = ROOT / "docs"


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", ["notebook.md", "paper.md", "serving.md"])
def test_its_python_runs_from_top_to_bottom(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").symlink_to(DOCS)
    monkeypatch.chdir(tmp_path)
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0)))
    names: dict[str, object] = {}
    blocks = python_of(page)
    assert blocks
    for block in blocks:
        exec(block, names)
    if page == "notebook.md":
        live = names["page"]
        assert "<iframe" in live._repr_html_()  # type: ignore[attr-defined]
        live.close()  # type: ignore[attr-defined]
    elif page == "serving.md":
        vlm, inputs = names["vlm"], names["inputs"]
        assert names["plain"] == [vlm.generate(inputs, max_new_tokens=8)]  # type: ignore[attr-defined]
        assert names["probe"].result().samples  # type: ignore[attr-defined]
        assert "".join(names["pieces"]).strip()  # type: ignore[arg-type]
    else:
        assert (tmp_path / "differences.pdf").stat().st_size > 1000


def test_methods_and_controls_that_are_advised_exist() -> None:
    text = (DOCS / "which_method.md").read_text(encoding="utf-8")
    names = set(known_methods())
    specs = [spec for spec in re.findall(r"`([a-z_]+(?::[^`]*)?)`", text) if spec.partition(":")[0] in names]
    assert {"cut_off", "var_random", "pai:alpha=0,gamma=2", "vaf:target=text"} <= set(specs)
    for spec in specs:
        assert parse_spec(spec) is not None
    for name in re.findall(r"\(methods/(\w+)\.md\)", text):
        assert name in names


def test_the_advice_quotes_what_was_measured() -> None:
    text = (DOCS / "which_method.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 5]
    evidence = "".join(
        (DOCS / page).read_text(encoding="utf-8")
        for page in ("steering.md", "steering_organisms.md", "grounding_evidence.md")
    )
    quoted = {number for row in rows for number in re.findall(r"\d+\.\d+", row)}
    assert len(quoted) > 12
    assert {number for number in quoted if number not in evidence} == set()


def test_pictures_of_the_documents_are_small() -> None:
    heavy = {
        path.name: path.stat().st_size for path in (DOCS / "images").rglob("*.png") if path.stat().st_size > 400_000
    }
    assert heavy == {}
