"""The unit head: its map is what taking each head away does, its lists say which heads, and adhh takes them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sightline as sl
from families import BY_NAME
from sightline.errors import InputError
from sightline.jobs.impact_config import Request
from sightline.jobs.impact_files import document_of
from sightline.knockout.head_maps import agreement, head_list, mean_of, ranked_heads
from sightline.knockout.heads import head_effects
from sightline.methods.adhh import ADHH
from sightline.pages.impact_figures import heat_map
from sightline.pages.tables.impact import sections
from sightline.results.plain import plain_text
from sightline.stats import rank_correlation

SAMPLE = sl.Sample(image=Image.effect_noise((48, 48), 60).convert("RGB"), prompt="is there a red circle in the image ?")


@cache
def tiny() -> Any:
    return sl.load("tiny-llava", device="cpu")


@cache
def heads() -> Any:
    return sl.impact(tiny(), SAMPLE, unit="head")


@pytest.mark.parametrize("family", ["llava", "qwen3_vl"])
def test_the_map_is_the_effect_of_each_head(family: str) -> None:
    case, model = BY_NAME[family].make_inputs(1, None), BY_NAME[family].model()
    found = sl.impact(model, case.inputs, unit="head", target=17, layers=[1, 2])
    plain = head_effects(model, case.inputs, target=17)
    assert plain.exact is not None
    assert found.layers == (1, 2)
    assert found.maps["logprob"] == pytest.approx(plain.exact[[1, 2]].double().numpy(), abs=1e-5)
    assert found.maps["gradient"] == pytest.approx(plain.gradient[[1, 2]].double().numpy(), abs=1e-6)
    assert (found.baseline["token"], found.settings["unit"]) == (17, "head")
    assert set(found.settings) == {"mode", "unit", "layers", "target"}


def test_agreement_is_of_ranks() -> None:
    assert rank_correlation([[1, 2], [3, 50]], [[0.1, 0.2], [0.3, 0.31]]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert rank_correlation([1, 1, 1], [3, 2, 1]) is None
    both = [heads().maps[name].ravel().argsort().argsort() for name in ("logprob", "gradient")]
    assert agreement(heads()) == pytest.approx(float(np.corrcoef(both)[0, 1]))


def test_the_list_names_the_heads_that_the_token_owes_most_to() -> None:
    ranked = ranked_heads(heads())
    values = [entry["logprob"] for entry in ranked]
    assert values == sorted(values)
    assert values[0] == heads().maps["logprob"].min()
    layer, head = map(int, ranked[0]["head"].split("."))
    assert heads().maps["logprob"][layer, head] == values[0]
    assert head_list(heads())["heads"] == [entry["head"] for entry in ranked[: max(1, len(ranked) // 20)]]


def test_adhh_takes_the_file_of_the_list(tmp_path: Path) -> None:
    found = head_list(heads())
    (tmp_path / "heads.json").write_text(json.dumps(found))
    method = ADHH(heads=(str(tmp_path / "heads.json"),))
    assert method.heads == tuple(found["heads"])
    assert "heads.json" not in method.spec(), "what is recorded are the heads themselves"
    with pytest.raises(InputError, match="There is no file"):
        ADHH(heads=(str(tmp_path / "other.json"),))
    (tmp_path / "heads.json").write_text("[]")
    with pytest.raises(InputError, match="holds no list of heads"):
        ADHH(heads=(str(tmp_path / "heads.json"),))


def test_the_document_and_its_tables_say_the_agreement() -> None:
    document = document_of(Request(SAMPLE, sl.Study(unit="head")), [heads()], tiny())
    told = plain_text(sections(document))
    assert f"by {agreement(heads()):.2f} (Spearman)" in told
    assert ranked_heads(heads())[0]["head"] in told
    assert document["heads"]["heads"] == head_list(heads())["heads"]
    assert len(heat_map(heads()).axes[0].get_xticklabels()) == tiny().anatomy.num_heads


def test_over_prompts_the_list_is_of_the_mean() -> None:
    other = sl.impact(tiny(), sl.Sample(image=SAMPLE.images[0], prompt="is there a star ?"), unit="head")
    found = mean_of([heads(), other])
    assert found.maps["logprob"] == pytest.approx((heads().maps["logprob"] + other.maps["logprob"]) / 2)
    done = sl.impact("tiny-llava", [SAMPLE, sl.Sample(image=SAMPLE.images[0], prompt="is there a star ?")], unit="head")
    assert done.to_dict()["heads"] == head_list(found, 2) | {"effects": pytest.approx(head_list(found)["effects"])}
    with pytest.raises(InputError, match="different layers"):
        mean_of([heads(), sl.impact(tiny(), SAMPLE, unit="head", layers=[0])])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"window": 3}, "The unit head has no setting window"),
        ({"tokens": "text"}, "The unit head has no setting tokens"),
        ({"new_tokens": 2}, "The unit head has no setting new_tokens"),
        ({"mode": "local"}, "Heads are taken away in the mode causal"),
        ({"layers": [99]}, "Layer 99 has no softmax attention"),
        ({"target": 99999999}, "There is no token 99999999"),
    ],
)
def test_what_heads_do_not_have_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        sl.impact(tiny(), SAMPLE, unit="head", **fields)
