"""Paired statistics: against brute force and scipy, at the edges, and that the intervals cover what they say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from sightline.benchmarks.base import Item, Verdict, find_bench
from sightline.benchmarks.compare import Interval, compare_verdicts, intervals
from sightline.benchmarks.limit import first_items
from sightline.stats import sign_flip
from toy_bench import Ratio, Toy

TOY = Toy()


def headline(bench: Toy, items: Sequence[Item], judgements: dict[str, Verdict]) -> tuple[float | None, Interval]:
    return intervals(bench, items, judgements).get("accuracy", (None, None))


def items_of(groups: Sequence[str], per_scene: int = 1) -> list[Item]:
    return [
        Item(str(number), "Is it?", truth="yes", group=group, about={"scene": str(number // per_scene)})
        for number, group in enumerate(groups)
    ]


def judged(items: Sequence[Item], right: Sequence[bool]) -> dict[str, Verdict]:
    return {item.id: Verdict(item.id, "yes", bool(of)) for item, of in zip(items, right, strict=True)}


def test_delta_flips_and_p_value() -> None:
    items = items_of([""] * 10)
    a = judged(items, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    b = judged(items, [1, 1, 1, 1, 0, 1, 1, 1, 1, 0])
    found = compare_verdicts(TOY, items, a, b)
    assert found.delta == pytest.approx(0.3)
    assert found.a_only == ("4",)
    assert found.b_only == ("5", "6", "7", "8")
    assert found.p_value == pytest.approx(0.375)  # 2 (1 + 5) / 2**5
    assert found.to_dict()["flips"] == [1, 4]
    assert found.ci95 is not None
    assert found.ci95[0] <= 0.3 <= found.ci95[1]
    back = compare_verdicts(TOY, items, b, a)
    assert back.delta == pytest.approx(-0.3)
    assert back.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))
    assert (back.a_only, back.b_only) == (found.b_only, found.a_only)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["x", "y"])), min_size=2, max_size=30))
def test_identical_answers_differ_in_nothing(drawn: list[tuple[bool, str]]) -> None:
    items = items_of([group for _, group in drawn])
    same = judged(items, [right for right, _ in drawn])
    found = compare_verdicts(TOY, items, same, dict(same))
    groups = [group for _, group in drawn]
    interval = None if max(map(groups.count, groups)) < 2 else (0.0, 0.0)
    assert (found.delta, found.ci95, found.p_value, found.a_only, found.b_only) == (0.0, interval, 1.0, (), ())


def test_nothing_and_next_to_nothing() -> None:
    items = items_of(["", ""])
    one = judged(items[:1], [True])
    nothing = compare_verdicts(TOY, items, {}, {})
    assert (nothing.delta, nothing.ci95, nothing.p_value, nothing.n, nothing.missing) == (None, None, 1.0, 0, 0)
    single = compare_verdicts(TOY, items, one, judged(items[:1], [False]))
    assert (single.delta, single.ci95, single.p_value, single.n) == (-1.0, None, 1.0, 1)
    pair = judged(items_of(["x", "y"]), [True, False])
    lonely = compare_verdicts(TOY, items_of(["x", "y"]), pair, judged(items_of(["x", "y"]), [False, False]))
    assert (lonely.delta, lonely.ci95) == (-0.5, None)  # one unit a stratum: nothing to draw from
    apart = compare_verdicts(TOY, items, one, judged(items[1:], [True]))
    assert (apart.delta, apart.n, apart.missing) == (None, 0, 2)
    assert headline(TOY, items, {}) == (None, None)
    assert headline(TOY, items, one) == (1.0, None)


def test_only_items_that_both_answered_count() -> None:
    items = items_of([""] * 6)
    a = judged(items, [1, 1, 1, 0, 0, 0])
    b = judged(items[:4], [1, 1, 0, 1])
    found = compare_verdicts(TOY, items, a, b)
    assert (found.n, found.missing, found.delta) == (4, 2, 0.0)
    assert (found.a_only, found.b_only) == (("2",), ("3",))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.floats(0.001, 1000))
def test_where_each_unit_counts_once_the_test_is_mcnemars(a_only: int, b_only: int, same: int, size: float) -> None:
    expected = binomtest(b_only, a_only + b_only).pvalue if a_only + b_only else 1.0
    assert sign_flip([-size] * a_only + [size] * b_only + [0.0] * same) == pytest.approx(expected)
    assert sign_flip([size, 0.0, -size], [b_only, same, a_only]) == pytest.approx(expected)


@settings(max_examples=60)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9), st.sampled_from([1.0, 1 / 7, 1e-6]))
def test_the_p_counts_every_exchange_of_signs(changes: list[int], scale: float) -> None:
    sums = np.array(list(itertools.product([1, -1], repeat=len(changes)))) @ np.array(changes)
    expected = (np.abs(sums) >= abs(sum(changes))).mean()
    assert sign_flip(scale * np.array(changes)) == pytest.approx(expected)
    assert sign_flip(-scale * np.array(changes)) == pytest.approx(expected)


def test_changes_of_any_size_are_tested_nearly_exactly() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.5, 1.5):
        changes = rng.normal(shift, 1, 12)
        sums = np.array(list(itertools.product([1, -1], repeat=12))) @ changes
        assert sign_flip(changes) == pytest.approx((np.abs(sums) >= abs(changes.sum()) - 1e-9).mean(), abs=0.002)
    many = rng.normal(0.05, 1, 5000)
    normal = 2 * norm.sf(abs(many.sum()) / np.sqrt((many**2).sum()))
    assert sign_flip(many) == pytest.approx(normal, rel=0.02)


def plain_interval(sums: np.ndarray, strata: np.ndarray, figure: str, seed: int = 1) -> tuple[float, float]:
    """Units drawn by index, one resample after another."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(4000):
        totals = []
        for name in np.unique(strata):
            rows = sums[strata == name]
            totals.append(rows[rng.integers(len(rows), size=len(rows))].sum(0))
        if figure == "accuracy":
            right_a, all_a, right_b, all_b = np.sum(totals, axis=0)
            drawn.append(right_b / all_b - right_a / all_a)
        else:
            drawn.append(np.mean([total[2] / total[3] - total[0] / total[1] for total in totals]))
    return tuple(np.percentile(drawn, (2.5, 97.5)))


def test_the_interval_is_that_of_drawing_units_one_by_one() -> None:
    rng = np.random.default_rng(0)
    items = items_of(["x"] * 60 + ["y"] * 40, per_scene=2)
    right_a, right_b = rng.random(100) < 0.6, rng.random(100) < 0.7
    found = compare_verdicts(TOY, items, judged(items, right_a), judged(items, right_b))
    pairs = np.stack([right_a, np.ones(100), right_b, np.ones(100)], axis=1).reshape(50, 2, 4).sum(1)
    expected = plain_interval(pairs, np.array([0] * 30 + [1] * 20), "accuracy")
    assert found.ci95 == pytest.approx(expected, abs=0.02)


def test_a_ratio_over_strata_is_made_anew_in_each_resample() -> None:
    rng = np.random.default_rng(2)
    items = items_of(["x"] * 70 + ["y"] * 50)
    many = rng.integers(1, 6, size=(120, 2)).astype(float)
    bad = np.floor(many * rng.random((120, 2)))
    sides = [
        {item.id: Verdict(item.id, None, False, {"bad": bad[i, side], "all": many[i, side]})
         for i, item in enumerate(items)}
        for side in (0, 1)
    ]  # fmt: skip
    found = compare_verdicts(Ratio(), items, *sides)
    sums = np.stack([bad[:, 0], many[:, 0], bad[:, 1], many[:, 1]], axis=1)
    strata = np.array([0] * 70 + [1] * 50)
    means = [sums[strata == name].sum(0) for name in (0, 1)]
    assert found.delta == pytest.approx(np.mean([of[2] / of[3] - of[0] / of[1] for of in means]))
    assert found.ci95 == pytest.approx(plain_interval(sums, strata, "ratio"), abs=0.02)


def test_a_ratio_of_nothing_is_no_figure() -> None:
    items = items_of(["x"] * 3)
    empty = {item.id: Verdict(item.id, None, True, {"bad": 0.0, "all": 0.0}) for item in items}
    assert headline(Ratio(), items, empty) == (None, None)
    rare = empty | {"0": Verdict("0", None, False, {"bad": 1.0, "all": 2.0})}
    assert headline(Ratio(), items, rare) == (0.5, (0.5, 0.5))  # where no mention is drawn there is no figure


def test_the_interval_covers_the_true_difference() -> None:
    """Drawn 400 times from methods that are 8 points apart, it holds the 8 points about 95 times in 100."""
    rng, covered, rounds, n = np.random.default_rng(3), 0, 400, 150
    items = items_of(["x", "y", "z"] * (n // 3))
    hard = rng.random((rounds, n))
    for luck in hard:  # both methods find the same items hard, as real ones do
        found = compare_verdicts(
            TOY,
            items,
            judged(items, 0.7 * luck + 0.3 * rng.random(n) < 0.55),
            judged(items, 0.7 * luck + 0.3 * rng.random(n) < 0.63),
            resamples=400,
        )
        assert found.ci95 is not None
        covered += found.ci95[0] - 1e-9 <= TRUE_DELTA <= found.ci95[1] + 1e-9
    assert 0.91 <= covered / rounds <= 0.985


def _share_below(threshold: float) -> float:
    grid = (np.arange(2000) + 0.5) / 2000
    return float((0.7 * grid[:, None] + 0.3 * grid[None, :] < threshold).mean())


TRUE_DELTA = _share_below(0.63) - _share_below(0.55)


def test_nine_thousand_items_take_less_than_a_second() -> None:
    rng = np.random.default_rng(4)
    items = items_of(["random", "popular", "adversarial"] * 3000)
    a, b = (judged(items, rng.random(9000) < share) for share in (0.8, 0.82))
    begun = time.process_time()
    found = compare_verdicts(TOY, items, a, b)
    assert time.process_time() - begun < 1
    assert found.n == 9000
    assert found == compare_verdicts(TOY, items, a, b)


def test_official_figures_are_those_of_the_document() -> None:
    rng = np.random.default_rng(5)
    truths = ["yes", "no"] * 20
    about = {"pair": "0", "image": "a"}
    items = [
        Item(str(i), "Is it?", truth=truth, group=("count", "code_reasoning")[i // 20], about={**about, "pair": i // 2})
        for i, truth in enumerate(truths)
    ]
    sides: list[dict[str, Verdict]] = [
        {item.id: (said := rng.choice(["yes", "no"]), Verdict(item.id, said, said == item.truth))[1] for item in items}
        for _ in range(2)
    ]
    for name, figures in {"pope": {"accuracy", "f1", "yes_ratio"}, "mme": {"total", "perception", "cognition"}}.items():
        bench = find_bench(name)
        documents = [bench.score(items, side) for side in sides]
        found = intervals(bench, items, sides[0])
        assert found.keys() == figures
        assert next(iter(found)) == bench.headline
        compared = compare_verdicts(bench, items, *sides)
        for figure, (value, interval) in found.items():
            assert value == pytest.approx(documents[0][figure])
            assert interval is not None
            assert interval[0] < documents[0][figure] < interval[1]
            assert compared.figures[figure][0] == pytest.approx(documents[1][figure] - documents[0][figure])
        assert compared.figures[bench.headline] == (compared.delta, compared.ci95)


# A share of the items ----------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, max_size=24).map(sorted),
    st.integers(1, 3),
    st.integers(1, 30),
    st.integers(0, 30),
)
def test_a_limit_takes_groups_evenly_and_units_whole(groups: list[str], per_scene: int, limit: int, more: int) -> None:
    items = items_of(groups, per_scene)
    taken = first_items(TOY, items, limit)
    names = [item.id for item in taken]
    assert 1 <= len(names) <= max(limit, per_scene)
    assert names == [item.id for item in items if item.id in set(names)]
    wider = {item.id for item in first_items(TOY, items, limit + more)}
    assert set(names) <= wider
    blank = {item.id: TOY.judge(item, "") for item in items}
    for unit in TOY.units(items, blank):
        assert len(set(unit.ids) & set(names)) in (0, len(unit.ids))
    if per_scene == 1:
        counts = {group: sum(item.group == group for item in taken) for group in set(groups)}
        short = {group for group in counts if counts[group] == groups.count(group)}
        rest = [count for group, count in counts.items() if group not in short]
        assert len(names) == min(limit, len(items))
        assert not rest or max(rest) - min(rest) <= 1
