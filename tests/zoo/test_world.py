"""The small world: what it says about a scene is true, and what it claims of its statistics holds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sightline.zoo import questions as ask
from sightline.zoo import shapes_samples
from sightline.zoo.render import PALETTE, render
from sightline.zoo.samples import MAKERS, shapes_questions
from sightline.zoo.world import (
    COLOURS,
    GRID,
    KINDS,
    NEGATIVES,
    POSITIONS,
    SHAPES,
    Cooccurrence,
    Kind,
    Scene,
    SceneObject,
    draw_scene,
    draw_scenes,
    negatives,
    world_table,
)

SCENES = list(draw_scenes(300, seed=11))
PAIR = Scene(
    items=(
        SceneObject(Kind("red", "circle"), 0, 0),
        SceneObject(Kind("blue", "square"), 0, 2),
        SceneObject(Kind("blue", "circle"), 2, 1),
    )
)


def test_a_seed_is_a_scene() -> None:
    assert draw_scene(5) == draw_scene(5)
    assert draw_scene(5) != draw_scene(6)
    assert len(set(SCENES)) == len(SCENES)


def test_items_stand_in_reading_order_in_cells_of_their_own() -> None:
    for scene in SCENES:
        cells = [item.cell for item in scene.items]
        assert cells == sorted(set(cells))
        assert 1 <= len(cells) <= 6
        assert all(0 <= cell < GRID * GRID for cell in cells)
        assert all(item.position == POSITIONS[item.cell] for item in scene.items)


def test_the_same_scene_renders_to_the_same_bytes_at_any_size() -> None:
    assert render(SCENES[0]).tobytes() == render(SCENES[0]).tobytes()
    for size in (1, 37, 48, 336):
        image = render(SCENES[0], size)
        assert image.size == (size, size)
        assert image.mode == "RGB"
    with pytest.raises(ValueError, match="at least one pixel"):
        render(SCENES[0], 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_in_its_colour_inside_its_cell(shape: str) -> None:
    for colour in COLOURS:
        scene = Scene(items=(SceneObject(Kind(colour, shape), row=1, column=2),))
        pixels = np.asarray(render(scene, 90)).astype(int)
        painted = (np.abs(pixels - 240).sum(axis=-1) > 0).nonzero()
        assert painted[0].min() >= 30
        assert painted[0].max() < 60
        assert painted[1].min() >= 60
        assert tuple(pixels[45, 75]) == PALETTE[colour]


def test_shapes_of_one_colour_look_different() -> None:
    drawn = {shape: render(Scene(items=(SceneObject(Kind("red", shape), 1, 1),))).tobytes() for shape in SHAPES}
    assert len(set(drawn.values())) == len(SHAPES)


def test_objects_are_uneven_and_keep_company() -> None:
    table = Cooccurrence.of(SCENES)
    seen = sorted(table.seen.values())
    assert table.scenes == len(SCENES)
    assert seen[-1] > 3 * max(1, seen[2])
    for (a, b), count in table.together.items():
        assert count == table.together[b, a] <= min(table.seen[a], table.seen[b])
    popular = max(KINDS, key=lambda kind: table.seen[kind])
    lift = [
        table.together[popular, kind] * table.scenes / (table.seen[popular] * table.seen[kind])
        for kind in KINDS
        if kind != popular and table.seen[kind] >= 20
    ]
    assert max(lift) > 1.5
    assert min(lift) < 0.7


@pytest.mark.parametrize("how", NEGATIVES)
def test_negatives_are_never_there(how: str) -> None:
    for index, scene in enumerate(SCENES):
        absent = negatives(scene, 3, how, random.Random(index))
        assert len(set(absent)) == 3
        assert not set(absent) & set(scene.kinds)


def test_negatives_are_what_their_name_says() -> None:
    table = world_table()
    rng = random.Random(0)
    for scene in SCENES[:50]:
        absent = [kind for kind in KINDS if kind not in scene.kinds]
        assert table.seen[negatives(scene, 1, "popular", rng)[0]] == max(table.seen[kind] for kind in absent)
        company = table.company(negatives(scene, 1, "adversarial", rng)[0], scene)
        assert company == max(table.company(kind, scene) for kind in absent)
    with pytest.raises(ValueError, match="random, popular, adversarial"):
        negatives(SCENES[0], 1, "wild", rng)


def test_existence_is_true_and_balanced() -> None:
    for how in NEGATIVES:
        asked = [(s, q) for i, s in enumerate(SCENES) for q in ask.pope(s, how, random.Random(i), pairs=2)]
        assert all(
            (question.about in {kind.name for kind in s.kinds}) == (question.answer == "yes") for s, question in asked
        )
        assert sum(question.answer == "yes" for _, question in asked) * 2 == len(asked)


def test_answers_about_a_known_scene() -> None:
    assert ask.caption(PAIR).answer == "a red circle, a blue square and a blue circle."
    assert ask.count(PAIR, shape="circle") == ask.Question(
        "count", "How many circles are in the image?", "2", about="circles"
    )
    assert ask.count(PAIR, colour="blue").prompt == "How many blue shapes are in the image?"
    assert ask.count(PAIR, "blue", "cross").prompt == "How many blue crosses are in the image?"
    assert ask.count(PAIR).answer == "3"
    assert ask.colour(PAIR, "square").answer == "blue"
    assert ask.position(PAIR, 2).answer == "a blue square"
    assert ask.position(PAIR, 4).prompt == "What is in the center of the image?"
    assert ask.position(PAIR, 4).answer == "nothing"
    assert ask.place(PAIR, Kind("red", "circle"), 0).answer == "yes"
    assert ask.place(PAIR, Kind("red", "circle"), 2).answer == "no"
    assert ask.attribute(PAIR, "red").prompt == "Is there a red shape in the image?"
    assert ask.attribute(PAIR, "star").answer == "no"
    assert ask.verify_colour(PAIR, "square", "blue").answer == "yes"
    assert ask.verify_count(PAIR, "circle", 2).answer == "yes"
    assert ask.verify_count(PAIR, "circle", 1).prompt == "Is there 1 circle in the image?"
    assert ask.relation(PAIR.items[0], "above", PAIR.items[2]).answer == "yes"
    assert ask.relation(PAIR.items[0], "to the right of", PAIR.items[1]).answer == "no"
    assert ask.single_shapes(PAIR) == ("square",)
    with pytest.raises(ValueError, match="exactly one circle"):
        ask.colour(PAIR, "circle")


@pytest.mark.parametrize("options", range(2, 11))
def test_multiple_choice_has_one_right_answer(options: int) -> None:
    places = set()
    for index, scene in enumerate(SCENES[:60]):
        question = ask.choice(scene, options, random.Random(index))
        there = {kind.name for kind in scene.kinds}
        assert len(set(question.options)) == options
        assert [option in there for option in question.options].count(True) == 1
        right = question.options[ask.LETTERS.index(question.answer)]
        assert right in there
        assert f"{question.answer} {right}\n" in question.prompt
        places.add(question.answer)
    assert len(places) == options


def test_multiple_choice_refuses_what_has_no_letter() -> None:
    with pytest.raises(ValueError, match="2 to 10 options, not 11"):
        ask.lettered("Which?", tuple("abcdefghijk"), 0)


def test_a_caption_names_what_is_there() -> None:
    for scene in SCENES:
        assert ask.mentioned(ask.caption_text(scene)) == tuple(item.kind for item in scene.items)
    assert ask.mentioned("A Red Circle and reddish circles.") == (Kind("red", "circle"),)


def test_samples_repeat_and_take_turns() -> None:
    first, again = list(shapes_samples(8, seed=3)), list(shapes_samples(8, seed=3))
    assert [sample["prompt"] for sample in first] == [sample["prompt"] for sample in again]
    assert [sample["image"].tobytes() for sample in first] == [sample["image"].tobytes() for sample in again]
    assert [sample["task"] for sample in first] == list(MAKERS) * 2
    assert len({sample["id"] for sample in first}) == 8
    assert {sample["task"] for sample in shapes_samples(5, kind="count")} == {"count"}
    assert list(shapes_samples(0)) == []
    with pytest.raises(ValueError, match="one of mix, existence"):
        next(shapes_samples(1, kind="riddle"))


def test_sampled_existence_is_balanced() -> None:
    answers = [question.answer for _, question in shapes_questions(400, seed=1, kind="existence")]
    assert 0.42 < answers.count("yes") / len(answers) < 0.58
