"""CHAIR: which objects captions name, the official files, and the scores."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.benchmarks import find_bench
from sightline.benchmarks.answers import score_answers
from sightline.benchmarks.base import InvalidItem, Item
from sightline.benchmarks.chair import PROMPT, Chair
from sightline.benchmarks.chair_words import OFFICIAL_MERGES, Vocabulary, coco_vocabulary, tokenize, vocabulary_of
from sightline.data.coco import image_number, read_image_list, read_split
from sightline.errors import InputError
from sightline.zoo.world import COLOURS, SHAPES
from support.coco import write_split

DATA = Path(__file__).parent / "data"
SYNONYMS = DATA / "chair_synonyms.txt"
AWKWARD = [json.loads(line) for line in (DATA / "chair_awkward.jsonl").read_text(encoding="utf-8").splitlines()]
CHAIR = Chair(synonyms=SYNONYMS)


def mentions(caption: str, vocabulary: Vocabulary | None = None) -> list[list[str]]:
    return [list(mention) for mention in (vocabulary or coco_vocabulary(SYNONYMS)).read(caption).mentions]


def item(*truth: str, name: str = "1") -> Item:
    return Item(name, PROMPT, ("1.jpg",), sorted(truth))


def scored(*answers: tuple[tuple[str, ...], str], parser: Any = "official") -> dict[str, Any]:
    items = [item(*truth, name=str(place)) for place, (truth, _) in enumerate(answers)]
    pairs = zip(items, answers, strict=True)
    return CHAIR.score(items, {one.id: CHAIR.judge(one, caption, parser) for one, (_, caption) in pairs})


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", AWKWARD, ids=[case["id"] for case in AWKWARD])
def test_awkward_captions_name_what_the_script_finds(case: dict[str, Any]) -> None:
    assert mentions(case["caption"]) == case["mentions"], case["why"]


def plain_twin(caption: str, lines: list[list[str]]) -> list[str]:
    """The script's steps on words that are singular and parted by single spaces, written out one by one."""
    names: dict[str, str] = {}
    for line in lines:
        for word in line:
            names[word] = line[0]
    words = caption.lower().split(" ")
    joined = []
    while words:
        pair = " ".join(words[:2])
        if len(words) > 1 and pair in OFFICIAL_MERGES:
            joined.append(OFFICIAL_MERGES[pair])
            words = words[2:]
        else:
            joined.append(words.pop(0))
    if "toilet" in joined and "seat" in joined:
        joined = [word for word in joined if word != "seat"]
    return [names[word] for word in joined if word in names]


LINES = [line.strip().split(", ") for line in SYNONYMS.read_text(encoding="utf-8").split("\n") if line.strip()]
PARTS = sorted({part for line in LINES for word in line for part in word.split() if part not in ("skis", "sports")})
CAPTIONS = st.lists(st.sampled_from([*PARTS, "toilet", "seat", "baby", "track", "home", "plate", "the"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(CAPTIONS)
def test_reading_equals_its_plain_twin(words: list[str]) -> None:
    singular = [word for word in words if word not in ("children", "oxen")]
    caption = " ".join(singular)
    assert [name for _, name in mentions(caption)] == plain_twin(caption, LINES)


@settings(max_examples=40, deadline=None)
@given(CAPTIONS, st.sampled_from(["  ", "\n", "\t", " \r\n ", "\u00a0"]))
def test_case_and_white_space_change_nothing(words: list[str], space: str) -> None:
    assert mentions(space + space.join(words).upper() + space) == mentions(" ".join(words))


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80))
def test_any_text_is_read(caption: str) -> None:
    words = coco_vocabulary().read(caption)
    assert words.count >= len(words.mentions)
    assert not any(character.isspace() for token in tokenize(caption.lower()) for character in token)


def test_a_long_caption_takes_linear_time() -> None:
    for piece in ('a "dog". ', ".", "'", ". )", "--", ",a"):
        assert coco_vocabulary().read(piece * 30_000).count > 0


@pytest.mark.parametrize("name", coco_vocabulary().categories)
def test_our_own_list_finds_every_word_it_has_in_singular_and_plural(name: str) -> None:
    vocabulary = coco_vocabulary()
    for word in (word for word, category in vocabulary.names.items() if category == name):
        plural = {"man": "men", "child": "children", "mouse": "mice", "goose": "geese", "ox": "oxen"}.get(word, word)
        if plural == word:
            plural = word + ("es" if word.endswith(("s", "ch", "sh")) else "s")
            plural = plural[:-2] + "ies" if word.endswith(("by", "ry", "dy", "ny", "py", "ty")) else plural
            plural = {"knifes": "knives", "pocketknifes": "pocketknives", "calfs": "calves"}.get(plural, plural)
        for form in (word, plural):
            assert {found for _, found in mentions(f"one {form} here.", vocabulary)} == {name}, form


def test_our_own_list_has_the_80_categories() -> None:
    categories = coco_vocabulary().categories
    assert len(categories) == 80
    assert {"person", "traffic light", "hair drier", "toothbrush", "tv", "potted plant", "skis"} <= set(categories)


def test_another_world_is_a_few_lines() -> None:
    vocabulary = vocabulary_of([(f"{colour} {shape}",) for colour in COLOURS for shape in SHAPES])
    found = mentions("Two red circles, a Blue cross, green crosses and a red, square thing.", vocabulary)
    assert [name for _, name in found] == ["red circle", "blue cross", "green cross"]

    @dataclass(frozen=True)
    class ShapesChair(Chair):
        def vocabulary(self) -> Vocabulary:
            return vocabulary

    judgement = ShapesChair().judge(item("red circle"), "a red circle and a yellow star")
    assert judgement.detail["hallucinated"] == [["yellow star", "yellow star"]]


@pytest.mark.parametrize("library", ["nltk", "pattern"])
def test_a_singular_of_a_library_that_is_missing_is_one_sentence(library: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.en", None)
    with pytest.raises(InputError, match=f"needs the {library} library"):
        Chair(singular=library).judge(item(), "dogs")


def test_the_nltk_singular_reads_words_as_their_tags_say(monkeypatch: Any) -> None:
    """A stand-in with WordNet's answers: "seated" is a form of "seat", and "vases" is taken for "vas"."""
    nltk, stem = types.ModuleType("nltk"), types.ModuleType("nltk.stem")
    tags = {"seated": "VBN", "vases": "NNS"}

    class WordNetLemmatizer:
        def lemmatize(self, word: str, pos: str) -> str:
            return {("seated", "v"): "seat", ("vases", "n"): "vas"}.get((word, pos), word)

    nltk.pos_tag = lambda tokens: [(token, tags.get(token, "DT")) for token in tokens]  # type: ignore[attr-defined]
    stem.WordNetLemmatizer = WordNetLemmatizer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nltk", nltk)
    monkeypatch.setitem(sys.modules, "nltk.stem", stem)
    vocabulary = coco_vocabulary.__wrapped__(SYNONYMS, "nltk")
    assert mentions("a man seated by vases", vocabulary) == [["man", "person"], ["seat", "chair"]]
    assert mentions("a man seated by vases") == [["man", "person"], ["vase", "vase"]]

    def no_data(tokens: list[str]) -> None:
        raise LookupError

    nltk.pos_tag = no_data  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"nltk\.downloader"):
        coco_vocabulary.__wrapped__(SYNONYMS, "nltk")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no synonyms"),
        ("\n \n", "holds no synonyms"),
        ('{"person": ["man"]}', "holds no synonyms"),
        ("person,man,woman\n", "line 1 .* is not of the form"),
        ("person, man\n, dog\n", "line 2 .* is not of the form"),
    ],
)
def test_malformed_synonyms_are_refused_in_one_sentence(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "synonyms.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        Chair(synonyms=tmp_path / "synonyms.txt").judge(item(), "a dog")


# Scores ---------------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    result = scored(
        (("dog", "couch"), "A dog on a sofa with two cats and a cat."),  # 4 mentions, 2 wrong, both truths named
        (("person",), "A man."),  # all right
        (("bus",), "Nothing is to be seen."),  # names nothing
    )
    assert result["n"] == 3
    assert result["unparsed"] == 0
    assert result["chair_s"] == pytest.approx(1 / 3)
    assert result["chair_i"] == pytest.approx(2 / 5)
    assert result["recall"] == pytest.approx(3 / 4)
    assert (result["mentions"], result["hallucinated"]) == (5, 2)
    assert result["objects_per_caption"] == pytest.approx(5 / 3)
    assert result["mean_words"] == pytest.approx((12 + 3 + 6) / 3)


def test_silence_counts_in_the_script_and_not_in_strict() -> None:
    answers = (((("dog",)), "a cat"), (("dog",), " \n"), (("dog",), ""), (("dog",), "???"))
    official, strict = scored(*answers), scored(*answers, parser="strict")
    assert (official["unparsed"], strict["unparsed"]) == (3, 3)
    assert (official["chair_s"], strict["chair_s"]) == (0.25, 1.0)
    assert official["chair_i"] == strict["chair_i"] == 1.0
    assert official["recall"] == strict["recall"] == 0.0
    assert CHAIR.judge(item("dog"), "", "official").right
    assert not CHAIR.judge(item("dog"), "", "strict").right


def test_figures_of_nothing_are_none() -> None:
    empty = CHAIR.score([item("dog")], {})
    assert empty["n"] == 0
    assert empty["missing"] == 1
    assert empty["chair_s"] is empty["chair_i"] is empty["recall"] is empty["mean_words"] is None
    assert scored((("dog",), "nothing"))["chair_i"] is None


def test_the_label_is_the_objects_in_order() -> None:
    judgement = CHAIR.judge(item("dog"), "Dogs, a cat, a dog")
    assert judgement.parsed == "dog, cat, dog"
    assert not judgement.right
    assert judgement.detail["recalled"] == ["dog"]
    json.dumps(judgement.detail)


TRUTHS = st.sets(st.sampled_from([line[0] for line in LINES]), max_size=5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TRUTHS, CAPTIONS), min_size=1, max_size=5), st.sampled_from([line[0] for line in LINES]))
def test_laws_of_the_scores(answers: list[tuple[set[str], list[str]]], added: str) -> None:
    result = scored(*((tuple(truth), " ".join(words)) for truth, words in answers))
    for name in ("chair_s", "chair_i", "recall"):
        assert result[name] is None or 0 <= result[name] <= 1
    more = scored(*((tuple(truth | {added}), " ".join(words)) for truth, words in answers))
    assert more["hallucinated"] <= result["hallucinated"]
    assert more["mentions"] == result["mentions"]
    named = scored(*((tuple(truth | {"dog"}), " ".join([*words, ",", "dog"])) for truth, words in answers))
    assert named["hallucinated"] <= result["hallucinated"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TRUTHS, CAPTIONS), min_size=1, max_size=5))
def test_units_add_up_to_the_scores(answers: list[tuple[set[str], list[str]]]) -> None:
    items = [item(*truth, name=str(place)) for place, (truth, _) in enumerate(answers)]
    judged = {one.id: CHAIR.judge(one, " ".join(words)) for one, (_, words) in zip(items, answers, strict=True)}
    result = CHAIR.score(items, judged)
    units = CHAIR.units(items, judged)
    assert [unit.ids for unit in units] == [(one.id,) for one in items]
    totals = {"": np.sum([unit.sums for unit in units], axis=0)}
    assert float(CHAIR.headline_value(totals)) == pytest.approx(result["chair_s"])
    chair_i = float(CHAIR.chair_i_value(totals))
    assert np.isnan(chair_i) if result["chair_i"] is None else chair_i == pytest.approx(result["chair_i"])


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    val: dict[int, tuple[list[int], list[str]]] = {
        42: ([18, 63, 18], ["A puppy on a sofa.", "A cat watches a dog."]),
        7: ([], ["A man."]),
        391895: ([1], []),
    }
    write_split(root / "annotations", "val2014", val)
    write_split(root / "annotations", "train2014", {9: ([1], ["A woman with a kitten."])})
    return root


def test_truth_is_what_is_annotated_and_what_people_said(coco: Path) -> None:
    items = find_bench("chair", synonyms=SYNONYMS).load(coco)
    assert all(isinstance(one, Item) for one in items)
    assert {one.id: one.truth for one in items} == {  # type: ignore[union-attr]
        "42": ["cat", "couch", "dog"],
        "7": ["person"],
        "391895": ["person"],
    }
    first = items[0]
    assert isinstance(first, Item)
    assert first.prompt == PROMPT
    assert first.images == (coco / "val2014" / "COCO_val2014_000000000042.jpg",)
    names = CHAIR.aliases(first)
    assert names == ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000042", "000000000042")
    assert Chair(template="Say what you see. {question}").load(coco)[0].prompt == f"Say what you see. {PROMPT}"  # type: ignore[union-attr]


def test_files_anywhere_below_and_other_splits(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (coco / "annotations").rename(tmp_path / "deep" / "anywhere")
    assert [one.id for one in Chair().load(tmp_path)] == ["42", "7", "391895"]
    assert [one.id for one in Chair(split="train2014").load(tmp_path)] == ["9"]
    with pytest.raises(InputError, match="has no split 'test'"):
        Chair(split="test").load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "7\nCOCO_val2014_000000000042.jpg\n9\n",
        "\ufeff7\r\n\r\nval2014/COCO_val2014_000000000042.jpg\r\n000000000009\r\n7\r\n",
        '[7, "COCO_val2014_000000000042", 9.0]',
        '{"image_id": 7, "caption": "a"}\n{"image_id": "42"}\n{"file_name": "COCO_train2014_000000000009.jpg"}\n',
        '[{"image_id": 7}, {"image": "COCO_val2014_000000000042.jpg"}, {"id": 9}]',
    ],
)
def test_an_image_list_of_any_form(content: str, coco: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text(content, encoding="utf-8")
    items = Chair(image_list=tmp_path / "list").load(coco)
    assert [one.id for one in items] == ["7", "42", "9"]
    assert isinstance(items[2], Item)
    assert items[2].truth == ["cat", "person"]
    assert items[2].images == (coco / "train2014" / "COCO_train2014_000000000009.jpg",)


def test_a_listed_image_that_is_not_annotated_is_recorded(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("42\n123456\nmy cat\n")
    items = Chair(image_list=tmp_path / "list").load(coco)
    assert [type(one) for one in items] == [Item, InvalidItem, InvalidItem]
    assert isinstance(items[1], InvalidItem)
    assert "not annotated in COCO val2014 or train2014" in items[1].error
    for file in (coco / "annotations").glob("*train*"):
        file.unlink()
    assert [one.id for one in Chair(image_list=tmp_path / "list").load(coco)] == ["42", "123456", "my cat"]
    (tmp_path / "list").write_text("123456\n")
    with pytest.raises(InputError, match="None of the images"):
        Chair(image_list=tmp_path / "list").load(coco)
    (tmp_path / "list").write_text("\n")
    with pytest.raises(InputError, match="names no image"):
        read_image_list(tmp_path / "list")


def test_what_is_wrong_with_the_files_is_said(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="CHAIR needs COCO's own files"):
        Chair().load(None)
    with pytest.raises(InputError, match="does not exist: give a folder"):
        Chair().load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no captions_val2014.json and instances_val2014.json"):
        Chair().load(tmp_path / "empty")
    instances = coco / "annotations" / "instances_val2014.json"
    whole = instances.read_text()
    for content, message in [
        (whole[: len(whole) // 2], "is no whole JSON file"),
        ("[]", "is no COCO file"),
        ('{"annotations": []}', 'no list "categories"'),
        ('{"categories": [], "annotations": [{"image_id": 1}]}', 'lacks "image_id" and "category_id"'),
        ('{"categories": [], "annotations": [{"image_id": 1, "category_id": 5}]}', "category 5"),
        ("[" * 100_000, "is no whole JSON file"),
    ]:
        instances.write_text(content)
        with pytest.raises(InputError, match=message):
            Chair().load(coco)
    write_split(coco / "annotations", "val2014", {1: ([1], ["x"])}, [{"id": 1, "name": "unicorn"}])
    with pytest.raises(InputError, match="no line for COCO's 'unicorn'"):
        Chair(synonyms=SYNONYMS).load(coco)


def test_outlines_are_not_kept(coco: Path) -> None:
    split = read_split(coco, "val2014")
    assert split.categories == {42: {"dog", "couch"}, 391895: {"person"}}
    assert split.captions[7] == ["A man."]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        (42, 42),
        ("42", 42),
        (42.0, 42),
        ("COCO_val2014_000000000042", 42),
        ("COCO_val2014_000000000042.jpg", 42),
        ("val2014/000000000042.png", 42),
        ("000000000000", 0),
        (True, None),
        (float("nan"), None),
        (None, None),
        ("cat", None),
        ("42 cats", None),
        ("4٢", None),
    ],
)
def test_names_of_images(name: Any, number: int | None) -> None:
    assert image_number(name) == number


@pytest.mark.parametrize("form", ["lines", "array"])
def test_answers_in_the_results_format_find_their_images(form: str, coco: Path, tmp_path: Path) -> None:
    records = [
        {"image_id": 42, "caption": "A dog and a horse."},
        {"image_id": "COCO_val2014_000000000007", "caption": "A man\u0000 \U0001f415 كلب"},
        {"image_id": "COCO_val2014_000000391895.jpg", "caption": None},
    ]
    lines = "\n".join(map(json.dumps, records))
    (tmp_path / "answers.json").write_text(json.dumps(records) if form == "array" else lines)
    document = score_answers(CHAIR, tmp_path / "answers.json", coco).document
    assert (document["n"], document["missing"], document["unparsed"]) == (3, 0, 1)
    assert (document["mentions"], document["hallucinated"]) == (2, 1)
    assert document["chair_s"] == pytest.approx(1 / 3)
    assert document["recall"] == pytest.approx(1 / 5)
