"""The pages on the evidence quote the result files."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_evidence_is_what_was_measured() -> None:
    page = (ROOT / "docs" / "grounding_evidence.md").read_text(encoding="utf-8")
    results = ROOT / "benchmarks" / "results"
    detection = json.loads((results / "grounding_detection.json").read_text())
    for found in detection["settings"].values():
        detector = found["detectors"]["grounding last4"]
        assert f"{detector['auroc']:.2f} ({detector['ci95'][0]:.2f} to {detector['ci95'][1]:.2f})" in page


def test_the_seeds_are_all_there() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "grounding_evidence.json").read_text())
    page = (ROOT / "docs" / "grounding_evidence.md").read_text(encoding="utf-8")
    seeds: dict[str, set[int]] = {}
    for run in found["runs"]:
        seeds.setdefault(run["key"]["arm"], set()).add(run["key"]["seed"])
        assert all(0 <= run["figures"][name] <= 1 for name in ("pope", "chair_s_sampled", "auroc_swapped_last4"))
    assert {arm: len(which) for arm, which in seeds.items()} == dict.fromkeys(found["settings"]["arms"], 5) | {
        "start": 1
    }
    mean = sum(run["figures"]["chair_s_sampled"] for run in found["runs"] if run["key"]["arm"] == "labels") / 5
    assert f"{100 * mean:.1f} ± " in page
