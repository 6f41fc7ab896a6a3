"""ImpactMap: its document, its table, and what is not defined; two maps aligned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sightline.errors import InputError, SightlineError
from sightline.files.json import json_text
from sightline.knockout import ImpactMap, Source
from sightline.knockout.compare import at_depths, compare_maps
from sightline.results.result import LONG


def impact_map(words: str = "is there a cat", layers: int = 3, **fields: Any) -> ImpactMap:
    texts = words.split()
    tokens = tuple(Source((place,), text) for place, text in enumerate(texts))
    patches = tuple(Source((place,), "<image>", "image", 0, *divmod(place - 4, 2), grid=0) for place in range(4, 8))
    sources = (*tokens, *patches) if fields.pop("has_image", True) else tokens
    values = np.arange(layers * len(sources), dtype=np.float64).reshape(layers, -1) - 5
    values[0, 1] = np.nan
    fields = {"mode": "causal", "maps": {"logprob": values, "flip": (values < 0).astype(float)}} | fields
    return ImpactMap(model=fields.pop("model", "m"), row=9, layers=tuple(range(layers)), tokens=sources, **fields)


def test_the_document_and_back() -> None:
    controls = (Source((1, 2), "2 random, draw 1", kind="control"),)
    found = impact_map(
        baseline={"token": 3, "prob": 0.5},
        settings={"window": 9},
        controls=controls,
        control_maps={"kl": np.ones((3, 1))},
        reference={"row": {"kl": 1.0}, "every-row": {"kl": 2.0}},
    )
    document = json.loads(json_text(found.to_dict()))
    assert document["layers"] == 3
    assert document["maps"]["logprob"][0][:3] == [-5.0, None, -3.0]
    assert {"position": 5, "text": "<image>", "modality": "image", "row": 0, "col": 1}.items() <= document["tokens"][
        5
    ].items()
    assert json.loads(json_text(ImpactMap.from_dict(document).to_dict())) == document


@pytest.mark.parametrize(
    "document", [{}, {"model": 1}, {"tokens": 3}, {"model": "m", "mode": "causal", "row": 1, "layers": "x"}]
)
def test_what_is_no_document(document: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no document of `sightline impact`"):
        ImpactMap.from_dict(document)


def test_a_map_is_compared_with_another_by_layer_and_modality() -> None:
    one, other = impact_map(), impact_map(maps={"logprob": np.ones((3, 8))})
    (row,) = one.compare(other).query("layer == 1 and modality == 'image'").to_dict("records")
    assert (row["metric"], row["n"], row["mean_b"]) == ("logprob", 1, 4.0)
    assert row["difference"] == 4.0 - one.values("logprob")[1, 4:].sum()
    assert row["ci_low"] is None


def test_the_table(tmp_path: Path) -> None:
    found = impact_map()
    table = pd.read_csv(found.to_csv(tmp_path / "deep" / "impact.csv"))
    assert len(table) == 3 * 8
    assert list(table.columns[:9]) == "layer position positions text modality kind image patch_row patch_col".split()
    last = table.iloc[-1]
    assert (last["layer"], last["position"], last["patch_row"], last["patch_col"]) == (2, 7, 1, 1)
    assert last["logprob"] == found.maps["logprob"][2, 7]
    assert table["logprob"].isna().sum() == 1
    (tmp_path / "file").touch()
    with pytest.raises(SightlineError, match="could not be written"):
        found.to_csv(tmp_path / "file" / "impact.csv")


def test_heads_have_columns_of_their_own() -> None:
    heads = np.arange(3 * 2 * 8, dtype=np.float64).reshape(3, 2, 8)
    found = impact_map(mode="local", maps={"l2_heads": heads})
    table = found.table()
    assert table["l2_head1"].tolist() == heads[:, 1].ravel().tolist()
    assert found.values("l2_heads")[1, 3] == heads[1, :, 3].mean()
    long = found.to_pandas()
    assert list(long.columns[:10]) == list(LONG)
    assert long[long["head"] == 1].value.tolist() == heads[:, 1].ravel().tolist()
    assert set(long.metric) == {"l2_heads"}


def test_awkward_texts_survive_the_table(tmp_path: Path) -> None:
    words = ["\0", 'a,b"c', "\n", "שלום", "👁", "\ud800"]
    sources = tuple(Source((place,), word) for place, word in enumerate(words))
    found = ImpactMap("m", "causal", 9, (0,), sources, {"kl": np.zeros((1, 6))})
    text = found.to_csv(tmp_path / "impact.csv").read_bytes().decode("utf-8")
    assert "שלום" in text
    assert "👁" in text
    found.plot().figure.draw_without_rendering()


def test_the_largest_effects() -> None:
    found = impact_map()
    (first, effect), *_ = found.top((1, 2), 2)
    assert first.positions == (7,)
    assert effect == found.maps["logprob"][1:, 7].mean()
    assert 1 not in [source.position for source, _ in found.top((0,), 9)], "what is not defined is no effect"
    with pytest.raises(InputError, match="no 'kl' in a causal map; it has logprob, flip"):
        found.values("kl")


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="the map kl"):
        impact_map(maps={"kl": np.zeros((3, 2))})


def test_two_models_are_aligned_by_text_and_depth() -> None:
    a, b = impact_map("<s> is there a", 3, model="A"), impact_map("Is there any a", 5, has_image=False, model="B")
    found = compare_maps(a, b)
    assert [(one.text, other.text) for one, other in found.pairs] == [("is", "Is"), ("there", "there"), ("a", "a")]
    assert [source.text for source in found.only_a] == ["<s>", *["<image>"] * 4]
    assert [source.text for source in found.only_b] == ["any"]
    assert found.depths == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found.maps_a["logprob"][[2, 4], 1].tolist() == a.maps["logprob"][[1, 2], 2].tolist()
    assert found.maps_b["logprob"][:, 2].tolist() == b.maps["logprob"][:, 3].tolist()
    document = json.loads(json_text(found.to_dict()))
    assert document["aligned"]["tokens"][0] == {"text": "is", "modality": "text", "a": [1], "b": [0]}
    assert len(document["unaligned"]["a"]) == 5


def test_a_model_beside_itself_is_itself() -> None:
    found = compare_maps(impact_map(), impact_map())
    assert len(found.pairs) == 8
    assert not found.only_a
    assert found.correlation("logprob") == pytest.approx(1.0)


def test_gaps_are_passed_over() -> None:
    values = np.array([[0.0, np.nan], [np.nan, np.nan], [4.0, np.nan]])
    assert at_depths(values, np.array([0.0, 0.5, 1.0]))[:, 0].tolist() == [0.0, 2.0, 4.0]
    assert np.isnan(at_depths(values, np.array([0.0, 1.0]))[:, 1]).all()


def test_what_cannot_be_aligned() -> None:
    with pytest.raises(InputError, match="in one mode"):
        compare_maps(impact_map(), impact_map(mode="local"))
    with pytest.raises(InputError, match="share no measure"):
        compare_maps(impact_map(), impact_map(maps={"kl": np.zeros((3, 8))}))
    with pytest.raises(InputError, match="on the same prompt"):
        compare_maps(impact_map("a b", has_image=False), impact_map("c d", has_image=False))
