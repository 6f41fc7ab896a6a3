"""The benchmarks of the bundled world: official loaders read what is drawn, and official scores come of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.benchmarks import Item, benches, find_bench
from sightline.benchmarks.base import PARSERS
from sightline.benchmarks.shapes import Drawn
from sightline.errors import InputError
from sightline.jobs.blind import VIEWS, seen_as
from sightline.zoo import BUNDLED
from sightline.zoo.official import LAYOUTS
from sightline.zoo.official.drawing import draw
from sightline.zoo.questions import mentioned

NAMES = tuple(f"shapes-{name}" for name in LAYOUTS)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of the module's own, and small draws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name, layout in list(LAYOUTS.items()):
            patch.setitem(LAYOUTS, name, replace(layout, count=30))
        yield


def test_all_are_known() -> None:
    assert {name for name, kind in benches().items() if issubclass(kind, Drawn)} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_true_answers_score_full_marks(name: str) -> None:
    bench = find_bench(name)
    items = [item for item in bench.load() if isinstance(item, Item)]
    assert len(items) in (30, 32)
    assert len({item.id for item in items}) == len(items)
    for parser in PARSERS:
        judgements = {item.id: bench.judge(item, _truth(item), parser) for item in items}
        assert all(judgement.right for judgement in judgements.values())
        document = bench.score(items, judgements)
        best = {"total": 800.0, "chair_s": 0.0}.get(bench.headline, 1.0)
        assert document[bench.headline] == best
        assert document["unparsed"] == 0


def _truth(item: Item) -> str:
    if isinstance(item.truth, list):
        return ", ".join(f"a {name}" for name in item.truth)
    return item.truth if "(" in item.truth or len(item.truth) > 1 else f"({item.truth})"


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_read_instead(name: str, tmp_path: Path) -> None:
    short = name.removeprefix("shapes-")
    draw(short, tmp_path / short, 16, seed=4)
    bench = find_bench(name)
    given_items, drawn_items = bench.load(tmp_path / short), bench.load(seed=4, limit=16)
    assert 16 <= len(given_items) <= 20
    assert {item.id for item in drawn_items} <= {item.id for item in bench.load(seed=4)}
    assert [item.id for item in bench.truths(tmp_path / short)] == [item.id for item in given_items]
    with pytest.raises(InputError):
        bench.load(tmp_path / "nowhere")


@settings(max_examples=15)
@given(name=st.sampled_from(NAMES), small=st.integers(1, 40), more=st.integers(0, 40))
def test_a_larger_limit_has_the_questions_of_a_smaller(name: str, small: int, more: int) -> None:
    bench = find_bench(name)
    few = {item.id: item for item in bench.load(limit=small) if isinstance(item, Item)}
    many = {item.id: item for item in bench.load(limit=small + more) if isinstance(item, Item)}
    unit = {"mme": 2, "mmvp": 2, "naturalbench": 4, "hallusionbench": 6}.get(name.removeprefix("shapes-"), 1)
    assert max(unit, small - unit + 1) <= len(few) <= max(unit, small)
    assert few.keys() <= many.keys()
    assert all(item.prompt == many[key].prompt and item.truth == many[key].truth for key, item in few.items())


def test_a_limit_is_shared_out_evenly() -> None:
    for name in ("shapes-pope", "shapes-mme", "shapes-blink"):
        groups = Counter(item.group for item in find_bench(name).load(limit=20) if isinstance(item, Item))
        assert max(groups.values()) - min(groups.values()) <= 2
    only = find_bench("shapes-pope", split="adversarial").load(limit=20)
    assert len(only) == 20
    assert {item.group for item in only if isinstance(item, Item)} == {"adversarial"}


def test_a_limit_may_exceed_what_is_drawn_by_default() -> None:
    assert len(find_bench("shapes-pope").load(limit=31)) == 31
    assert len(find_bench("shapes-chair").load(limit=33)) == 33
    with pytest.raises(InputError, match="cannot be drawn"):
        find_bench("shapes-chair").load(limit=10**9)


def test_vision_is_text_and_says_so() -> None:
    bench = find_bench("shapes-mmmu-pro")
    items = [item for item in bench.load(limit=4) if isinstance(item, Item)]
    prompt = items[0].prompt
    assert prompt.startswith("Which of these is in the image?\n(A) ")
    assert prompt.endswith("\nAnswer with the letter.")
    judgements = {item.id: bench.judge(item, "(A)") for item in items}
    assert "not drawn into the picture" in bench.score(items, judgements)["note"]
    ten, four = (
        [item for item in find_bench("shapes-mmmu-pro", split=split).load(limit=4) if isinstance(item, Item)]
        for split in ("standard-10", "standard-4")
    )
    assert [item.prompt for item in ten] == [item.prompt for item in items]
    assert all(len(item.about["options"]) == 4 and "<image" not in item.prompt for item in four)
    with pytest.raises(InputError, match="cot"):
        find_bench("shapes-mmmu-pro", mode="cot")


def test_other_words_and_synonyms(tmp_path: Path) -> None:
    assert find_bench("shapes-chair", template="What is in the image?").load(limit=1)[0].prompt.startswith("What")
    worded = find_bench("shapes-mmmu-pro", template="{question} {instruction}").load(limit=1)[0]
    assert worded.prompt == "Which of these is in the image? Answer with the letter."
    (tmp_path / "words.txt").write_text("red circle, sun\n")
    other = find_bench("shapes-chair", synonyms=tmp_path / "words.txt")
    assert [mention.name for mention in other.vocabulary().read("Two suns and a red circle.").mentions] == [
        "red circle",
        "red circle",
    ]


def test_chair_reads_captions_as_the_world_does() -> None:
    words = find_bench("shapes-chair").vocabulary()
    for text in (
        "a red circle, a blue square and a blue cross.",
        "A GREEN star",
        "a red, circle",
        "",
        "a yellow circle",
    ):
        assert [mention.name for mention in words.read(text).mentions] == [kind.name for kind in mentioned(text)]
    assert [mention.name for mention in words.read("two red crosses and a blue disc").mentions] == [
        "red cross",
        "blue circle",
    ]


def test_the_bundled_model_answers() -> None:
    """A few items of each: single pictures and several, in the words it knows."""
    import torch

    import sightline as sl

    torch.manual_seed(0)
    vlm = sl.load(next(iter(BUNDLED)))
    marks = {}
    for name in NAMES:
        bench = find_bench(name)
        items = [item for item in bench.load(limit=4) if isinstance(item, Item)]
        if name == "shapes-blink":
            items = items[:2]
        inputs = [vlm.encode(bench.sample(item), allow_text_only=bench.asks_without_image) for item in items]
        said = [vlm.generate(one, max_new_tokens=bench.new_tokens) for one in inputs]
        marks[name] = [bench.judge(item, text).right for item, text in zip(items, said, strict=True)]
    assert all(marks["shapes-pope"])
    assert all(marks["shapes-chair"])
    assert sum(marks["shapes-mmmu-pro"]) >= 2
    assert any(marks["shapes-mme"])
    assert all(marks["shapes-naturalbench"] + marks["shapes-mmvp"])
    assert sum(marks["shapes-amber"]) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_seen_blind(name: str) -> None:
    """Without its image, with a blank one, another item's or its own shuffled: each item still has its id and words."""
    items = [item for item in find_bench(name).load() if isinstance(item, Item)]
    for view in VIEWS:
        show = seen_as(view, items)
        for item in items[:12]:
            shown = show(item)
            assert (shown.id, shown.truth) == (item.id, item.truth)
            assert len(shown.images) == (0 if view == "no image" else len(item.images))
            assert not item.images or view == "no image" or list(shown.images) != list(item.images)
