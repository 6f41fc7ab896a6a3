"""What is read or restored stands on a page as that: nothing of it is called hidden, or left out in silence."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from report import made_runs
from sightline.knockout.result import ImpactMap
from sightline.knockout.source import Source
from sightline.pages.contents import contents
from sightline.pages.naming import distinct_names
from sightline.pages.page_maps import impact_maps
from sightline.pages.reading import read_runs
from sightline.pages.tables.impact import sections
from sightline.probes.map_values import unpack
from sightline.results.plain import plain_text


def write(folder: Path, mode: str, measure: str) -> Path:
    """A run of `impact` in this mode."""
    made_runs.write_impact(folder)
    document = json.loads((folder / "impact.json").read_text())
    values = np.abs(ImpactMap.from_dict(document).maps["kl"])
    found = ImpactMap.from_dict(document | {"mode": mode})
    found.maps.clear()
    found.maps[measure] = values
    if mode == "patch":
        found.maps["recovered_gradient"] = values
    found.baseline.update(against=3, margins=[1.0, -1.0], outliers=0, patches=9, neurons=[])
    if mode == "locate":
        found.baseline.update(heads=["2.3", "4.3"], box=[1, 0, 2, 3])
    (folder / "impact.json").write_text(json.dumps(found.to_dict()))
    about = json.loads((folder / "run.json").read_text())
    about["settings"]["settings"] = {"mode": mode, "unit": "token"}
    about["settings"]["other sha256"] = None if mode == "lens" else "a3fd"
    (folder / "run.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("mode", "measure", "acts", "merge", "heading", "unit", "says"),
    [
        ("lens", "lens", "looked at", np.max, "The logit lens", "probability", "sure of “yes”, behind layer"),
        ("registers", "norm", "looked at", np.mean, "Outliers in the vision tower", "norm", "0 of 9 patches are outl"),
        ("rollout", "rollout", "looked at", np.sum, "Attention rollout", "share of the row", "rollout leads to the im"),
        ("relevancy", "relevancy", "looked at", np.sum, "Relevance by gradients", "relevance (logits)", "gives the im"),
        ("gradient", "gradient_attention", "looked at", np.sum, "Gradient x attention", "relevance (logits)", "gives"),
        (
            "locate",
            "locate",
            "looked at",
            np.sum,
            "Heads that look at one place",
            "attention, sum of three heads",
            "the heads 2.3, 4.3 look at one place: row 1, columns 0 to 2 of the patches.",
        ),
        ("patch", "recovered", "restored", np.sum, "What restoring brings back", "share of the difference", "brings b"),
    ],
)
def test_a_reading_is_merged_as_its_measure_can_be_and_makes_no_finding_of_hiding(
    tmp_path: Path, mode: str, measure: str, acts: str, merge: Any, heading: str, unit: str, says: str
) -> None:
    found = contents(read_runs([write(tmp_path / "run", mode, measure)]))
    (entry,) = found["impact"]
    assert entry["acts"] == acts
    document = json.loads((tmp_path / "run" / "impact.json").read_text())
    kept = ImpactMap.from_dict(document)
    places = [place for place, source in enumerate(kept.tokens) if source.modality == "image"]
    np.testing.assert_allclose(entry["series"]["image"], merge(kept.maps[measure][:, places], axis=1))
    said = "".join(text for text, _ in found["finding"]["parts"])
    assert "hiding" not in said
    assert says in said
    assert entry["heading"] == heading
    assert entry["unit"] == unit
    assert "hidden" not in entry["shows"]
    assert found["samples"][0]["variants"][0]["maps"]["acts"] == acts
    words = plain_text(sections(document))
    assert acts in words
    assert "hidden" not in words


def test_readings_of_one_model_are_called_by_their_mode(tmp_path: Path) -> None:
    folders = [write(tmp_path / "one", "lens", "lens"), write(tmp_path / "two", "rollout", "rollout")]
    names = [entry["name"] for entry in contents(read_runs(folders))["impact"]]
    assert names == ["tiny-llava (lens)", "tiny-llava (rollout)"]


def test_prompts_of_one_mode_are_called_by_their_word_and_never_by_a_dictionary() -> None:
    runs = [
        SimpleNamespace(info={}, name=word, settings={"prompts": [{"settings": {"mode": "lens", "target": word}}]})
        for word in ("circle", "square")
    ]
    assert distinct_names(["m", "m"], runs) == ["m (lens: circle)", "m (lens: square)"]  # type: ignore[arg-type]
    runs[0].settings["settings"], runs[1].settings["settings"] = {"words": "a" * 300}, {"words": "b" * 300}
    assert max(map(len, distinct_names(["m", "m"], runs))) < 80  # type: ignore[arg-type]


def test_tokens_without_a_place_in_the_picture_are_counted_and_heads_stand_by_name() -> None:
    queries = tuple(Source((place,), "", "image") for place in range(3))
    values = np.arange(8.0).reshape(2, 4)
    found = ImpactMap("m", "lens", 3, (0, 1), (Source((9,), "dog"), *queries), {"lens": values})
    assert impact_maps([found])["notes"] == ["3 of 4 have no known place in a picture and are left out"]
    heads = tuple(Source((), f"head {head}", "head", kind="head") for head in range(4))
    shown = impact_maps([ImpactMap("m", "causal", 3, (0, 1), heads, {"logprob": values})])
    assert (shown["acts"], shown["notes"], shown["prompt"][3]) == ("taken away", [], ["head 3", False])
    assert unpack(impact_maps([found])["mean"]).shape == (1, 2, 1)
