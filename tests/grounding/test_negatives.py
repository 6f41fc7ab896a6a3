"""False captions: never true, well formed, labelled where they are false, the same for a seed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.lexicon import article, coco_lexicon, shapes_lexicon
from sightline.data.negatives import make_negatives
from sightline.data.shapes_training import shapes_negative, shapes_training
from sightline.data.swaps import CoOccurrence, Truth, negative_of
from sightline.data.training_sample import TrainingData, TrainingSample
from sightline.errors import InputError
from sightline.zoo.questions import caption, mentioned
from sightline.zoo.world import draw_scene

CAPTIONS = [
    "A dog sits on a couch next to two orange cats.",
    "An orange on the table with a knife.",
    "Three people riding horses near a red bus.",
    "a man in a blue shirt holding a tennis racket",
    "Two zebras stand in a field",
    "A cat that is orange watches tv.",
    "TWO giraffes and an elephant",
    "An apple and an umbrella, 3 birds",
]


def data(captions: list[str] = CAPTIONS, objects: dict[str, dict[str, int]] | None = None) -> TrainingData:
    samples = tuple(
        TrainingSample(str(number), (Path(f"{number}.png"),), "Describe.", text) for number, text in enumerate(captions)
    )
    said = {f"{number}.png": (text,) for number, text in enumerate(captions)}
    return TrainingData("toy", samples, objects=objects or {}, captions=said)


def changed(sample: TrainingSample) -> list[str]:
    return [sample.negative[start:end] for start, end, label in sample.negative_words if label == 0]


@pytest.mark.parametrize("seed", range(6))
def test_objects_are_swapped_for_absent_ones_with_number_and_article(seed: int) -> None:
    lexicon = coco_lexicon()
    for sample in make_negatives(data(), kinds=["object"], seed=seed):
        assert sample.negative is not None
        (word,) = changed(sample)
        name = word.lower()
        assert name in {form for forms in lexicon.forms.values() for form in forms}
        assert not lexicon.named(word) & lexicon.named(sample.answer)
        start = sample.negative.index(word)
        before = sample.negative[:start].split()[-1:]
        if before and before[0].lower() in ("a", "an"):
            assert before[0].lower() == article(word)
            assert lexicon.forms[name][0] == name
        if sample.answer.startswith("Two zebras"):
            assert name in {forms[1] for forms in lexicon.forms.values()}


@pytest.mark.parametrize("seed", range(4))
def test_colours_and_counts(seed: int) -> None:
    attributes = {sample.answer: sample for sample in make_negatives(data(), kinds=["attribute"], seed=seed)}
    assert attributes[CAPTIONS[1]].negative is None  # the orange is a fruit
    assert attributes[CAPTIONS[4]].negative is None
    assert changed(attributes[CAPTIONS[0]])[0] != "orange"
    assert attributes[CAPTIONS[2]].negative.startswith("Three people riding horses near a")
    counts = {sample.answer: sample for sample in make_negatives(data(), kinds=["count"], seed=seed)}
    assert changed(counts[CAPTIONS[4]])[0] in ("Three", "Four", "Five")
    assert counts[CAPTIONS[4]].negative.endswith("zebras stand in a field")
    assert counts[CAPTIONS[5]].negative is None  # "a cat ... watches": the verb would have to change
    assert int(changed(counts[CAPTIONS[7]])[0]) > 3 if changed(counts[CAPTIONS[7]])[0].isdigit() else True


def test_what_is_annotated_or_said_elsewhere_is_never_put_in() -> None:
    everything = set(coco_lexicon().forms) - {"cow"}
    known = data(["A dog on a couch."], {"0.png": dict.fromkeys(everything, 1)})
    for seed in range(5):
        (sample,) = make_negatives(known, kinds=["object"], seed=seed)
        assert changed(sample) == ["cow"]
    (none,) = make_negatives(
        data(["A dog on a couch."], {"0.png": dict.fromkeys(coco_lexicon().forms, 1)}), kinds=["object"]
    )
    assert none.negative is None
    counted = data(["Two dogs."], {"0.png": {"dog": 7}})
    (sample,) = make_negatives(counted, kinds=["count"])
    assert changed(sample)[0] in ("Eight", "Nine", "Ten")


def test_stand_ins_keep_company() -> None:
    many = data(["A fork and a knife."] * 5 + ["A fork."])
    samples = make_negatives(many, kinds=["object"], together=1.0)
    assert changed(samples[-1]) == ["knife"]
    company = CoOccurrence.of([["a", "b"], ["a", "b"], ["a", "c"]])
    assert company.closest(["b", "c", "d"], ["a"]) == ["b", "c"]


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
def test_the_ratio_and_the_kinds_are_balanced_and_seeded(ratio: float) -> None:
    many = data(["A red dog and two blue cats."] * 40)
    made = make_negatives(many, ratio=ratio, seed=1)
    assert sum(sample.negative is not None for sample in made) == round(ratio * 40)
    assert [sample.id for sample in made] == [sample.id for sample in many.samples]
    assert made == make_negatives(many, ratio=ratio, seed=1)
    assert made != make_negatives(many, ratio=ratio, seed=2)
    kinds = Counter(
        "count" if word.lower() in _NUMBERS else "attribute" if word in _COLOURS else "object"
        for sample in made
        if sample.negative
        for word in changed(sample)
    )
    assert max(kinds.values()) - min(kinds.values()) <= 1


_NUMBERS = "two three four five six seven eight nine ten".split()
_COLOURS = "orange yellow green purple pink brown black white gray".split()


@given(st.integers(0, 10**6), st.sampled_from([("object",), ("attribute",), ("count",)]))
def test_of_a_drawn_scene_a_false_caption_is_never_true(number: int, kinds: tuple[str, ...]) -> None:
    scene = draw_scene(number)
    sample = TrainingSample("x", (Path("x.png"),), "Describe.", caption(scene).answer)
    made = shapes_negative(sample, scene, random.Random(number), kinds)
    if made.negative is None:
        return
    assert made.negative != made.answer
    false = [word for word in made.negative_words if word[2] == 0]
    assert len(false) == 1
    objects = {item.kind for item in scene.items}
    if kinds != ("count",):
        wrong = [kind for kind in mentioned(made.negative) if kind not in objects]
        assert len(wrong) == 1
        assert wrong[0].colour in made.negative[false[0][0] : false[0][1]]
    else:
        assert made.negative[false[0][0] : false[0][1]] in _NUMBERS
    told = "".join(made.negative[start:end] for start, end, _ in made.negative_words)
    assert not {"and", "a"} & set(told.split())


@given(st.text(max_size=60), st.integers(0, 5))
def test_any_caption_is_survived(text: str, seed: int) -> None:
    truth = Truth(coco_lexicon(), {}, (text,))
    found = negative_of(text, truth, CoOccurrence(), ("count", "attribute", "object"), random.Random(seed))
    if found is not None:
        _, false, words = found
        assert false != text
        assert all(0 <= start < end <= len(false) for start, end, _ in words)
        assert [word for word in words if word[2] == 0]


def test_articles() -> None:
    an = "owl umbrella hour orange airplane awning elephant uninteresting apple oven".split()
    a = "unicorn one European urinal user dog hot utensil ewe".split()
    assert [article(word) for word in an] == ["an"] * len(an)
    assert [article(word) for word in a] == ["a"] * len(a)


def test_of_the_bundled_world_the_ratio_holds_too() -> None:
    many = TrainingData("shapes", tuple(shapes_training(32)))
    made = make_negatives(many, kinds=["count"], ratio=0.25)
    assert sum(sample.negative is not None for sample in made) == 8
    assert {kind.name for kind in mentioned("a red circle")} <= set(shapes_lexicon().forms)


def test_wrong_usage() -> None:
    for options, said in (
        ({"kinds": ["verb"]}, "no kind of negative verb"),
        ({"kinds": []}, "no kind of negative"),
        ({"ratio": 0.0}, "The ratio is 0.0"),
        ({"ratio": 1.5}, "The ratio is 1.5"),
        ({"together": -1.0}, "give 0 to 1"),
    ):
        with pytest.raises(InputError, match=said):
            make_negatives(data(), **options)
