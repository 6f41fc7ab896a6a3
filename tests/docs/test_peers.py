"""What stands beside Sightline in docs/benchmarks.md computes the same figures; the table is that of the results."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from docs.pages import ROOT

FOLDER = ROOT / "benchmarks"
NAMES = ("common", "peer_runs", "peers_table")


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, Any]]:
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in NAMES}
    sys.path.remove(str(FOLDER))
    for path in FOLDER.glob("*.py"):  # their names are too plain to stay
        sys.modules.pop(path.stem, None)


@torch.no_grad()
def test_eager_and_hooks_find_what_sightline_finds(scripts: dict[str, Any]) -> None:
    common, runs = scripts["common"], scripts["peer_runs"]
    model = common.decoder(2, torch.float32, "cpu", **common.narrowed(128))
    case = runs.Case(model, *common.prompt(72, "cpu"), new_tokens=3, hidden=36)
    masses = runs.sightline_measuring(case)()
    assert masses.shape == (2, 2)
    for peer in (runs.eager_measuring, runs.hook_measuring):
        assert torch.allclose(peer(case)(), masses, atol=1e-5)
    assert torch.allclose(runs.peer_knockout(case, "hook")(), runs.sightline_knockout(case)(), atol=1e-5)
    found = runs.sightline_map(case)()
    cut = runs.change(runs.plain_pass(case)(), runs.cut_pass(case, "hook", [1])())
    assert found.shape == (2, 72)
    assert torch.allclose(cut, found[1, 36], atol=1e-5)


def test_the_table_of_peers_is_that_of_the_results(scripts: dict[str, Any]) -> None:
    found = scripts["peers_table"].section(json.loads((FOLDER / "results" / "peers.json").read_text()))
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert f"<!-- peers -->\n{found}\n<!-- end of peers -->" in page
