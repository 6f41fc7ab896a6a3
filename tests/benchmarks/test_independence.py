"""What is independent: on POPE's real structure a null difference is found in 5% of comparisons, and intervals hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sightline.benchmarks import find_bench
from sightline.benchmarks.base import Item, Verdict
from sightline.benchmarks.compare import adjust, compare_verdicts, intervals
from sightline.stats import holm, smallest_difference, units_needed

SPLITS = ("random", "popular", "adversarial")
POPE = find_bench("pope")


def pope_items(images: int) -> list[Item]:
    """As the COCO files: each image's three present objects stand in all splits, absent ones often in two."""
    rng, items = np.random.default_rng(0), []
    absent = [f"thing {number}" for number in range(8)]
    for split in SPLITS:
        number = 0
        for image in range(images):
            drawn = rng.choice(absent[: 8 if split == "random" else 5], 3, replace=False)
            asked = [(f"object {place}", "yes") for place in range(3)] + [(name, "no") for name in drawn]
            for name, truth in asked:
                number += 1
                about = {"question_id": str(number), "question": f"Is there a {name}?", "image": f"{image}.jpg"}
                items.append(Item(f"{split}/{number}", "", truth=truth, group=split, about=about))
    return items


def answers(items: list[Item], rng: np.random.Generator, right: float) -> dict[str, bool]:
    """Whether a greedy model is right: the same question about the same image has the same answer in each split."""
    of_question: dict[tuple[str, str], bool] = {}
    for item in items:
        of_question.setdefault((item.about["image"], item.about["question"]), bool(rng.random() < right))
    return {item.id: of_question[item.about["image"], item.about["question"]] for item in items}


def judged(items: list[Item], rights: dict[str, bool]) -> dict[str, Verdict]:
    other = {"yes": "no", "no": "yes"}
    return {
        item.id: Verdict(item.id, item.truth if rights[item.id] else other[item.truth], rights[item.id])
        for item in items
    }


def test_a_difference_of_nothing_is_found_in_one_of_twenty_comparisons() -> None:
    """Over items that stand in several splits as if they were independent it was 14.5%, and intervals held in 82%."""
    items, rng, rounds = pope_items(30), np.random.default_rng(1), 300
    found, held, f1_held = 0, 0, 0
    for _ in range(rounds):
        a, b = (judged(items, answers(items, rng, 0.8)) for _ in range(2))
        compared = compare_verdicts(POPE, items, a, b, resamples=400)
        found += compared.p_value < 0.05
        assert compared.ci95 is not None
        held += compared.ci95[0] <= 0 <= compared.ci95[1]
        _, f1 = compared.figures["f1"]
        assert f1 is not None
        f1_held += f1[0] <= 0 <= f1[1]
    assert found / rounds <= 0.08
    assert 0.91 <= held / rounds <= 0.985
    assert 0.91 <= f1_held / rounds <= 0.985


def test_questions_of_several_splits_are_one_unit_and_all_count() -> None:
    items = pope_items(10)
    a = judged(items, dict.fromkeys((item.id for item in items), True))
    first = items[0].about
    b = judged(
        items, {i.id: (i.about["image"], i.about["question"]) != (first["image"], first["question"]) for i in items}
    )
    compared = compare_verdicts(POPE, items, a, b)
    assert compared.to_dict()["flips"] == [3, 0]  # one question, in three splits
    assert compared.p_value == 1.0
    assert compared.units == len({(item.about["image"], item.about["question"]) for item in items}) < len(items)
    assert compared.delta == pytest.approx(-3 / 180)
    assert intervals(POPE, items, a)["accuracy"] == (1.0, (1.0, 1.0))


def test_the_p_judges_the_difference_beside_it() -> None:
    """A tilt to no: each present object is lost in three splits, the more absent ones are won in one or two."""
    items, rng = pope_items(60), np.random.default_rng(2)
    lucky = answers(items, rng, 0.4)
    a = judged(items, {item.id: item.truth == "yes" or lucky[item.id] for item in items})
    b = judged(items, {item.id: item.truth == "no" for item in items})
    compared = compare_verdicts(POPE, items, a, b)
    assert compared.delta is not None
    assert compared.ci95 is not None
    assert compared.delta < -0.15
    assert compared.ci95[1] < 0
    assert compared.p_value < 0.001  # by units that are better on either side, of which there are as many: 0.2
    back = compare_verdicts(POPE, items, b, a)
    assert back.p_value == pytest.approx(compared.p_value)


def test_what_the_units_add_is_the_difference_and_their_exchange_its_distribution() -> None:
    """By brute force: the sides of six images of two subtasks of unlike size, exchanged in all ways."""
    mme, rng = find_bench("mme"), np.random.default_rng(0)
    items = [
        Item(
            f"{pair}/{place}",
            "",
            truth="yes",
            group="count" if pair < 4 else "OCR",
            about={"pair": str(pair), "image": str(pair)},
        )
        for pair in range(6)
        for place in range(2)
    ]
    for _ in range(5):
        a, b = (judged(items, {item.id: bool(rng.random() < 0.6) for item in items}) for _ in range(2))
        found = []
        for exchanged in itertools.product([False, True], repeat=6):
            sides: list[dict[str, Verdict]] = [{}, {}]
            for item in items:
                is_other = exchanged[int(item.about["pair"])]
                sides[is_other][item.id], sides[not is_other][item.id] = a[item.id], b[item.id]
            totals = [mme.score(items, side)["total"] for side in sides]
            found.append(totals[1] - totals[0])
        expected = np.mean(np.abs(found) >= abs(found[0]) - 1e-6)
        assert compare_verdicts(mme, items, a, b, resamples=2).p_value == pytest.approx(expected)


def test_a_headline_that_divides_by_what_a_side_names_is_judged_by_its_own_sign() -> None:
    """Of descriptions that name an object, the share that invents one: sides name objects in different descriptions."""
    bench = find_bench("object-halbench")
    items = [Item(f"{n}/0", "", truth=[]) for n in range(40)]

    def side(wrong: int, named: int) -> dict[str, Verdict]:
        details = [{"wrong": ["cat"] if n < wrong else [], "words": int(n < named)} for n in range(40)]
        return {item.id: Verdict(item.id, None, True, of) for item, of in zip(items, details, strict=True)}

    same = compare_verdicts(bench, items, side(10, 20), side(20, 40), resamples=2)
    assert (same.delta, same.p_value) == (0.0, 1.0)
    worse = compare_verdicts(bench, items, side(2, 40), side(20, 40), resamples=2)
    assert worse.p_value == pytest.approx(2 / 2**18)
    nothing = compare_verdicts(bench, items, side(0, 0), side(0, 0), resamples=2)
    assert (nothing.delta, nothing.p_value) == (None, 1.0)


def test_items_without_image_are_units_of_their_own() -> None:
    items = [Item(str(n), "", truth="yes", about={"question": "Is there a dog?", "image": ""}) for n in range(9)]
    sides = [judged(items, {item.id: bool(side) for item in items}) for side in (1, 0)]
    compared = compare_verdicts(POPE, items, *sides)
    assert (compared.units, compared.p_value) == (9, pytest.approx(2 / 2**9))


def test_holm_over_several_comparisons() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    documents: list[dict[str, Any]] = [
        {"paired": [{"p_value": 0.02}, {"p_value": 0.5}]},
        {"paired": [{"p_value": 0.01}]},
    ]
    adjust(documents)
    assert [entry["p_holm"] for of in documents for entry in of["paired"]] == pytest.approx([0.04, 0.5, 0.03])


def test_as_many_items_as_a_difference_needs_find_it() -> None:
    needed, rng, found = units_needed(0.1, 0.2), np.random.default_rng(0), 0
    assert needed == 155  # Connor's formula
    items = [Item(str(n), "", truth="yes", about={}) for n in range(needed)]
    for _ in range(300):
        luck = rng.random(needed)
        a = judged(items, {item.id: bool(draw > 0.05) for item, draw in zip(items, luck, strict=True)})
        b = judged(items, {item.id: bool(draw < 0.85) for item, draw in zip(items, luck, strict=True)})
        found += compare_verdicts(POPE, items, a, b, resamples=2).p_value < 0.05
    assert 0.7 <= found / 300 <= 0.9
    assert smallest_difference(needed, 0.2) == pytest.approx(0.1, abs=0.001)
    assert smallest_difference(3, 0.2) is None


def test_captions_are_compared_at_the_same_length() -> None:
    """Of a long and a short caption the words beyond the shorter one's end are left out."""
    chair = find_bench("chair")
    items = [Item(str(n), "", truth=["dog"]) for n in range(4)]
    short = {item.id: chair.judge(item, "a dog lies here") for item in items}
    long = {item.id: chair.judge(item, "a dog lies here, and beside it stands a horse with a cat") for item in items}
    figures = compare_verdicts(chair, items, short, long).figures
    assert figures["chair_s"][0] == 1.0
    assert figures["chair_i"][0] == pytest.approx(2 / 3)
    assert figures["chair_s_same_length"][0] == 0.0
    assert figures["object_f1"][0] == pytest.approx(0.5 - 1.0)
    document = chair.score(items, long)
    assert document["object_f1"] == pytest.approx(0.5)


def test_a_method_is_held_against_captions_cut_short() -> None:
    """Cutting the same captions wins nothing; leaving out what is invented alone does."""
    chair = find_bench("chair")
    items = [Item(str(n), "", truth=["bed", "bench", "car", "cat", "dog"]) for n in range(12)]

    def side(texts: list[str]) -> dict[str, Verdict]:
        return {item.id: chair.judge(item, text) for item, text in zip(items, texts, strict=True)}

    mixed = [
        f"a dog and a kite and a cat and a vase and a car and a bench and a clock and a bed {n}" for n in range(12)
    ]
    halves = [" ".join(text.split()[: len(text.split()) // 2]) for text in mixed]
    clean = ["a dog and a cat and a car"] * 12
    found = chair.frontier(items, side(mixed), {"shorter": side(halves), "better": side(clean)}, 0)
    assert found is not None
    shorter, better = found["methods"]["shorter"], found["methods"]["better"]
    assert shorter["delta"] == pytest.approx(0, abs=0.03)
    assert shorter["recall"] < found["curve"][-1]["recall"] == 1.0
    assert better["recall"] == pytest.approx(0.6)
    assert better["chair_i"] == 0.0
    assert better["shortened"] == pytest.approx(0.4, abs=0.03)  # dog kite cat vase car
    assert better["ci95"][1] < 0
    whole = chair.frontier(items, side(clean), {"more": side(mixed)}, 0)
    assert whole is not None
    assert whole["methods"]["more"]["is_beyond"]
    assert chair.frontier(items, {}, {}, 0) is None


STRUCTURES: dict[str, tuple[int, int]] = {
    "naturalbench": (4, 60), "mmvp": (2, 90), "mme": (2, 90), "hallusionbench": (6, 40), "amber": (14, 30),
}  # fmt: skip
"""Of each benchmark how many questions of one unit there are, and how many units are drawn here."""


@pytest.mark.parametrize("name", STRUCTURES)
def test_answers_that_go_together_are_no_evidence_of_their_own(name: str) -> None:
    """Two models without a difference, whose answers to one unit's questions mostly share their luck."""
    each, units = STRUCTURES[name]
    bench, rng, rounds = find_bench(name), np.random.default_rng(5), 60
    items = [item for unit in range(units) for item in unit_of(name, unit, each)]
    found = held = 0
    for _ in range(rounds):
        sides = []
        for _ in range(2):
            luck, own = rng.random(units) < 0.7, rng.random(len(items)) < 0.7
            shared = rng.random(len(items)) < 0.8
            rights = {item.id: bool(luck[n // each] if shared[n] else own[n]) for n, item in enumerate(items)}
            sides.append({item.id: verdict_of(item, rights[item.id]) for item in items})
        compared = compare_verdicts(bench, items, *sides, resamples=200)
        found += compared.p_value < 0.05
        assert compared.ci95 is not None
        held += compared.ci95[0] <= 0 <= compared.ci95[1]
    assert found / rounds <= 0.13  # 5% and three standard errors
    assert held / rounds >= 0.87


def unit_of(name: str, unit: int, each: int) -> list[Item]:
    """Questions that are scored as one, with what each of the benchmarks knows them by."""
    group = {"naturalbench": "yes_no", "mme": "existence", "amber": "state"}.get(name, "")
    names = ("category", "subcategory", "visual_input")
    about = {
        "set": str(unit),
        "pair": str(unit),
        "image": f"{unit}.jpg",
        "set_id": str(unit),
        **dict.fromkeys(names, "1"),
    }
    places = ("q0_i0", "q0_i1", "q1_i0", "q1_i1")
    return [
        Item(
            f"{unit}/{n}",
            "",
            truth="yes",
            group=group,
            about={**about, "place": places[n % 4], "figure_id": str(n % 3), "question_id": str(n // 3)},
        )
        for n in range(each)
    ]


def verdict_of(item: Item, is_right: bool) -> Verdict:
    return Verdict(item.id, "yes" if is_right else "no", is_right)
