"""Jobs on bundled models, each loaded once for all tests."""

from __future__ import annotations

import pytest

from support.loaded import BUNDLED, load_once


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that jobs name are loaded once for all tests."""
    load_once(monkeypatch, BUNDLED)
