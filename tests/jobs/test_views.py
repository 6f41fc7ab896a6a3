"""The same run seen by query set and by a field of the data."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightline as sl


def test_query_sets_stand_side_by_side(tmp_path: Path) -> None:
    found = sl.measure("tiny-llava", "shapes", limit=2, queries=("generated", "prompt"), out=tmp_path / "run")
    document = found.to_dict()["queries"]
    for name in ("generated", "prompt"):
        assert document[name] == sl.measure("tiny-llava", "shapes", limit=2, queries=name).to_dict()
        assert (tmp_path / "run" / name / "samples.jsonl").exists()
    table = found.to_pandas()
    assert set(table.queries) == {"generated", "prompt"}
    assert len(found.plot().lines) >= 2
    with pytest.raises(sl.InputError, match="queries is 'answers'"):
        sl.measure("tiny-llava", "shapes", queries=("generated", "answers"))
    with pytest.raises(sl.InputError, match="run folder of one query set"):
        sl.measure("tiny-llava", "shapes", queries=("prompt", "all"), out=tmp_path / "run" / "prompt")


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
    with pytest.raises(sl.InputError, match="No item of shapes-pope has a field 'colour'"):
        sl.evaluate("tiny-llava", "shapes-pope", limit=3, by="colour")
