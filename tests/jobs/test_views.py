"""The same run seen by query set and by a field of the data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sightline as sl
from sightline.zoo import shapes_samples


def test_query_sets_stand_side_by_side(tmp_path: Path) -> None:
    vlm, few = sl.load("tiny-llava"), {"limit": 2, "maps": 0, "new_tokens": 4}
    found = sl.measure(vlm, "shapes", queries=("generated", "prompt"), out=tmp_path / "run", **few)
    document = found.to_dict()["queries"]
    for name in ("generated", "prompt"):
        assert document[name] == sl.measure(vlm, "shapes", queries=name, **few).to_dict()
        assert (tmp_path / "run" / name / "samples.jsonl").exists()
    table = found.to_pandas()
    assert set(table.queries) == {"generated", "prompt"}
    assert len(found.plot().lines) >= 2
    assert found.compare()["a"].iloc[0] == "tiny-llava, generated"
    assert sl.read_run(tmp_path / "run").to_dict() == found.to_dict()
    with pytest.raises(sl.InputError, match="queries is 'answers'"):
        sl.measure("tiny-llava", "shapes", queries=("generated", "answers"))
    with pytest.raises(sl.InputError, match="run folder of one query set"):
        sl.measure("tiny-llava", "shapes", queries=("prompt", "all"), out=tmp_path / "run" / "prompt")


def test_one_model_is_loaded_once_for_all_query_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, loads = sl.load("tiny-llava"), []
    monkeypatch.setattr("sightline.jobs.models.load_model", lambda name, settings: loads.append(name) or vlm)
    sl.measure("tiny-llava", "shapes", queries=("prompt", "all"), limit=1, maps=0)
    assert loads == ["tiny-llava"]


def test_stages_by_a_field_are_those_of_its_samples() -> None:
    import pandas as pd

    rows = [
        {"image": scene["image"], "prompt": scene["prompt"], "subject": "odd" if place % 2 else "even"}
        for place, scene in enumerate(shapes_samples(4))
    ]
    vlm = sl.load("tiny-llava")
    found = sl.measure(vlm, pd.DataFrame(rows), queries="prompt", by="subject", maps=0)
    table = found.by("subject")
    odd = sl.measure(vlm, [row for row in rows if row["subject"] == "odd"], queries="prompt", maps=0)
    part = table[(table.subject == "odd") & (table.metric == "mdi")]
    mdi = [each["mdi"] for each in odd.to_dict()["stages"].values()]
    assert part.value.tolist() == pytest.approx(mdi, rel=1e-6), "other batches round otherwise"
    assert part.n.tolist() == [2, 2, 2]
    assert (part.ci_low <= part.value).all()
    values = found.to_dict()["by"]["values"]
    assert {name: of["n"] for name, of in values.items()} == {"even": 2, "odd": 2}
    assert any(getattr(section, "title", "").endswith("MDI by subject") for section in found.sections())
    assert len(found.plot(by="subject").get_legend().get_texts()) == 2
    assert set(found.to_pandas().subject) == {"even", "odd"}
    with pytest.raises(sl.InputError, match="No sample of samples has a field 'colour'; there are subject"):
        sl.measure(vlm, rows, by="colour")


def test_words_of_the_answer_and_metrics_of_ones_own_are_measured() -> None:
    def first_key(weights: torch.Tensor, layout: sl.TokenLayout) -> float:
        return float(weights[:, 0].mean())

    def first_word(layout: sl.TokenLayout, tokens: torch.Tensor) -> torch.Tensor:
        return (torch.arange(tokens.shape[1]) == layout.prompt_length).expand(tokens.shape)

    own = {"metrics": {"first_key": first_key}}
    found = sl.measure("tiny-llava", "shapes", limit=3, queries=first_word, **own)
    assert found.to_dict()["queries"] == "first_word"
    assert {sample.rows for sample in found.result.samples} == {1}
    layer = found.to_dict()["layers"][0]
    low, high = layer["first_key_ci95"]
    assert 0 < low <= layer["first_key"] <= high < 1
    table = found.to_pandas()
    assert set(table.metric) >= {"mdi", "first_key"}
    assert table["head"].isna().all()
    picture = next(shapes_samples(1))["image"]
    with pytest.raises(sl.InputError, match="words moon chose not one token"):
        sl.measure("tiny-llava", sl.Sample("Is there a red circle?", (picture,)), queries=sl.words(["moon"]))


def test_positions_and_metrics_of_ones_own_know_no_padding() -> None:
    def first_and_image(weights: torch.Tensor, layout: sl.TokenLayout) -> float:
        return float(weights[:, 0].mean() + weights[:, layout.grids[0][0].positions[2, 3]].mean())

    picture, vlm = next(shapes_samples(1))["image"], sl.load("tiny-llava")
    data = [sl.Sample(prompt, (picture,)) for prompt in ("What?", "Is there a red circle in the picture?")]
    for queries in ("generated", (1, -2)):
        own = {"queries": queries, "metrics": {"own": first_and_image}, "new_tokens": 3}
        one, two = (sl.measure(vlm, data, **own, batch_size=size).to_pandas() for size in (1, 2))
        assert set(one.metric) >= {"mdi", "own"}
        assert two.value.to_numpy() == pytest.approx(one.value.to_numpy(), rel=1e-3, abs=1e-5)


def test_heads_are_rows_where_they_are_asked_for() -> None:
    found = sl.measure("tiny-llava", "shapes", limit=1, new_tokens=2, heads=True)
    table = found.to_pandas()
    image = table[(table.metric == "image_mass") & (table.layer == 3)]
    of_heads = image[image["head"].notna()]
    assert list(of_heads["head"]) == list(range(sl.load("tiny-llava").anatomy.num_heads))
    assert of_heads.value.mean() == pytest.approx(float(image[image["head"].isna()].value.iloc[0]), abs=1e-6)


def test_scores_by_a_field_are_those_of_its_items() -> None:
    plain = sl.evaluate("tiny-llava", "shapes-pope", limit=24)
    document = sl.evaluate("tiny-llava", "shapes-pope", limit=24, by="group").to_dict()
    table = plain.to_pandas()
    parts = document["by"]["methods"]["none"]
    assert set(parts) == set(table.group) == set(document["methods"]["none"]["splits"])
    for group, of in parts.items():
        answers = table[table.group == group]
        assert (of["n"], of["accuracy"]) == (len(answers), pytest.approx(answers.value.mean()))
        low, high = of["accuracy_ci95"]
        assert low <= of["accuracy"] <= high
    frame = plain.by("group")
    assert {row.group: row.value for row in frame[frame.metric == "accuracy"].itertuples()} == {
        group: of["accuracy"] for group, of in parts.items()
    }
    with pytest.raises(sl.InputError, match="No item of shapes-pope has a field 'colour'"):
        sl.evaluate("tiny-llava", "shapes-pope", limit=3, by="colour")
