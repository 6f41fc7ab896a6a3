"""What every test runs under: offline, one thread a worker, the same examples each time."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from hypothesis import HealthCheck, settings

settings.register_profile(
    "sightline", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("sightline")


def pytest_configure() -> None:
    import torch
    from jaxtyping import install_import_hook

    # Array shapes written in annotations are checked while the tests run, and only then.
    shaped = [f"sightline.attention.{name}" for name in ("call", "rows", "groups", "edits")]
    install_import_hook(shaped, "beartype.beartype")

    torch.set_num_threads(1)
