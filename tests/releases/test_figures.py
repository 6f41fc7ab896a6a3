"""Every release of Transformers gives the figures that were recorded of one bundled scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from docs.pages import ROOT
from releases.figures import RECORDED, readings
from sightline.models.transformers_api import release


def test_the_figures_of_a_scene_are_those_recorded() -> None:
    found = dict(leaves(json.loads(json.dumps(readings()))))
    recorded = dict(leaves(json.loads(RECORDED.read_text(encoding="utf-8"))))
    assert found.keys() == recorded.keys()
    assert len(found) > 200
    for path, value in recorded.items():
        if isinstance(value, float):
            assert found[path] == pytest.approx(value, abs=1e-4), path
        else:
            assert found[path] == value, path


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word of a document, with where it stands."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield path, value
    for name, part in parts or ():
        yield from leaves(part, f"{path}/{name}")


def test_pip_may_install_the_releases_that_are_known_and_no_others() -> None:
    (first, oldest), (last, newest) = release.OLDEST, release.NEWEST
    bounds = f'"transformers>={first}.{oldest},<{last}.{newest + 1}"'
    assert bounds in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
