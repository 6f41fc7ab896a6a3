"""What every test runs under: offline, one thread a worker, the same examples each time."""

from __future__ import annotations

import os
from collections.abc import Generator
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

SHAPED = {"attention", "measure", "test_controls", "test_fastervlm", "test_fastv", "test_random_tokens", "test_var"}
"""Folders and files of tests in which array shapes are checked."""


BROKEN_FORWARDS = {"5.24.0": {"llama4": "its own forward reads image_outputs from an output that has none"}}
"""By release of Transformers, families whose own forward fails there: tests that run it are expected to fail, alike."""

RUN_THE_FORWARD = (
    "test_decoding_rows_equal_eager[llama4-",
    "test_the_logits_depend_on_the_attention_that_was_found[llama4]",
    "test_maps_equal_whole_passes_on_every_family[llama4]",
    "test_windows_rows_within_and_padding[llama4]",
    "test_class_tokens_are_no_patches_wherever_they_stand[llama4-",
    "test_similarity_is_the_plain_formula[llama4]",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if NO_TORCH:
        return
    import transformers

    for family, why in BROKEN_FORWARDS.get(transformers.__version__, {}).items():
        for item in items:
            if f"[{family}" in item.name and item.name.startswith(RUN_THE_FORWARD):
                item.add_marker(pytest.mark.xfail(raises=AttributeError, strict=True, reason=why))


NO_TORCH = find_spec("torch") is None
"""As under `make test-python310`, where tests that need a model library are skipped."""

MODEL_LIBRARIES = ("torch", "transformers", "tokenizers", "datasets", "huggingface_hub")


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
    shaped = [f"sightline.attention.{name}" for name in ("call", "rows", "groups", "edits")]
    install_import_hook(shaped, "beartype.beartype")

    torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    from jaxtyping import config

    # A fourth of a forward pass of a tiny model goes into the checks; each shape is seen in these files.
    config.update("jaxtyping_disable", not (item.path.parent.name in SHAPED or item.path.stem in SHAPED))
