"""`BENCH[:PATH][,FIELD=VALUE...]`: each of several benchmarks with its own options, and options for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sightline.errors import InputError
from sightline.jobs.benchmark_items import bench_items, read_spec


@pytest.mark.parametrize(
    ("text", "name", "place", "fields"),
    [
        ("pope", "pope", None, {}),
        ("pope:a/b", "pope", "a/b", {}),
        ("chair:COCO,synonyms=a.txt,singular=plain", "chair", "COCO", {"synonyms": Path("a.txt"), "singular": "plain"}),
        ("shapes-pope,split=random+popular", "shapes-pope", None, {"split": "random+popular"}),
        ("pope:a, b,template={question}, one word", "pope", "a, b", {"template": "{question}, one word"}),
        ("pope,template=a\\nb", "pope", None, {"template": "a\nb"}),
    ],
)
def test_a_benchmark_brings_its_own_options(text: str, name: str, place: str | None, fields: dict[str, Any]) -> None:
    assert read_spec(text) == (name, place, fields)


def test_a_folder_with_such_a_name_is_a_folder(tmp_path: Path) -> None:
    odd = tmp_path / "coco,split=random"
    odd.mkdir()
    assert read_spec(f"pope:{odd}") == ("pope", str(odd), {})


def test_options_for_all_go_to_those_that_have_them() -> None:
    pope, chair = bench_items(["shapes-pope", "shapes-chair"], limit=4, singular="plain", template="{question}?")
    assert pope.fields == {"template": "{question}?"}
    assert chair.fields == {"template": "{question}?", "singular": "plain"}
    own, other = bench_items(
        ["shapes-pope,split=random", "shapes-chair,template=Say it: {question}"], limit=4, template="X {question}"
    )
    assert own.fields == {"split": "random", "template": "X {question}"}
    assert other.fields == {"template": "Say it: {question}"}
    assert all(item.prompt.startswith("Say it: ") for item in other.items)


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("shapes-pope", {"singular": "plain"}, "shapes-pope takes no singular; it takes template, split"),
        ("shapes-pope,splitt=random", {}, "takes no splitt; it takes template, split"),
        ("shapes-pope,split=a,split=b", {}, "gives split twice"),
        ("shapes-pope:", {}, "names no place"),
    ],
)
def test_what_no_benchmark_has_is_refused(spec: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        bench_items([spec], limit=4, **options)
