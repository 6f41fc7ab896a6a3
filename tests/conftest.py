"""What every test runs under: offline, one thread a worker, the same examples each time."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from importlib.metadata import version
from importlib.util import find_spec

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "sightline", derandomize=True, deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sightline")

SHAPED = {"attention", "dominance", "test_controls", "test_fastervlm", "test_fastv", "test_random_tokens", "test_var"}
"""Folders and files of tests in which array shapes are checked."""


RUNS = {"cli", "jobs", "reproduce"}
"""Folders of tests that fill run folders."""

NO_TORCH = find_spec("torch") is None
"""As under `make test-python310`, where tests that need a model library are skipped."""

SEEN = [0]
"""How many modules there may be before what they hold is set aside once more."""

MODEL_LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "huggingface_hub")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """What was imported stays: else each `gc.collect()` of a run looks through a million objects, for half a second."""
    yield
    if len(sys.modules) > SEEN[0]:
        SEEN[0] = len(sys.modules) + 50
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if NO_TORCH:
        return
    from releases.differences import difference

    release = version("transformers")
    for item in items:
        if (found := difference(item.name, release)) is not None:
            item.add_marker(pytest.mark.xfail(raises=found.raises, strict=True, reason=found.why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    error = call.excinfo.value if call.excinfo is not None else None
    if NO_TORCH and isinstance(error, ModuleNotFoundError) and error.name in MODEL_LIBRARIES:
        report.outcome, report.longrepr = "skipped", (str(item.path), item.location[1] or 0, f"needs {error.name}")
    return report


def pytest_configure() -> None:
    if NO_TORCH:
        return
    import torch
    from jaxtyping import install_import_hook

    # Array shapes written in annotations are checked in tests of what has them, and only there.
    shaped = [f"sightline.attention.{name}" for name in ("call", "weights", "group_mass", "edits")]
    install_import_hook(shaped, "beartype.beartype")

    torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    from jaxtyping import config

    # A fourth of a forward pass of a tiny model goes into the checks; each shape is seen in these files.
    config.update("jaxtyping_disable", not (item.path.parent.name in SHAPED or item.path.stem in SHAPED))


@pytest.fixture
def drawn() -> None:
    """Figures of run folders are written in this test."""


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere they are not: writing them takes most of the time of a small run."""
    if NO_TORCH or "drawn" in request.fixturenames or request.path.parent.name not in RUNS:
        return
    monkeypatch.setattr("sightline.jobs.measurement.dominance_figures", lambda documents, folder: [])
    for module in ("compare_figures", "impact_figures"):  # the first imports from the second
        monkeypatch.setattr(f"sightline.pages.{module}.save_figures", lambda figures, folder: [])
