"""The questions about a scene, with the true answer.

Every function is pure: the same scene and generator, the same question.
"""

from __future__ import annotations

import random
import re
import string
from dataclasses import dataclass

from sightline.zoo.world import COLOURS, KINDS, POSITIONS, SHAPES, Kind, Scene, SceneObject, negatives

EXISTENCE_PHRASES: tuple[str, ...] = (
    "Is there a {} in the image?",
    "Is there a {} in this image? Please answer yes or no.",
    "Does the image contain a {}?",
    "Do you see a {}?",
)
CHOICE_ENDINGS: tuple[str, ...] = (
    "Answer with the letter.",
    "Answer with the option's letter from the given choices directly.",
)
SIDES: tuple[str, ...] = ("to the left of", "to the right of", "above", "below")
CAPTION_PHRASES: tuple[str, ...] = ("Describe the image.", "What is in the image?")
LETTERS: tuple[str, ...] = tuple(f"({letter})" for letter in string.ascii_uppercase[:10])
PLURALS: dict[str, str] = {shape: f"{shape}es" if shape.endswith("s") else f"{shape}s" for shape in SHAPES}


@dataclass(frozen=True)
class Question:
    """A question about one scene and its true answer.

    task: "existence", "attribute", "count", "colour", "position", "place", "verify", "relation", "choice" or
    "caption". options: for multiple choice the texts behind (A), (B), ... in order. about: the thing in question,
    such as "red circle". split: where a negative came from.
    """

    task: str
    prompt: str
    answer: str
    about: str = ""
    options: tuple[str, ...] = ()
    split: str = ""


def yes_no(is_true: bool) -> str:
    """ "yes" or "no"."""
    return "yes" if is_true else "no"


def existence(scene: Scene, kind: Kind, phrase: str = EXISTENCE_PHRASES[0], split: str = "") -> Question:
    """Is this kind of object in the picture?"""
    return Question("existence", phrase.format(kind), yes_no(kind in scene.kinds), about=kind.name, split=split)


def pope(scene: Scene, how: str, rng: random.Random, pairs: int = 1) -> tuple[Question, ...]:
    """Balanced existence questions in the manner of POPE: `pairs` present kinds, and as many absent ones chosen by
    `how`.

    A scene with fewer kinds than `pairs` gives one pair a kind.
    """
    present = rng.sample(scene.kinds, min(pairs, len(scene.kinds)))
    absent = negatives(scene, len(present), how, rng)
    return tuple(existence(scene, kind, split=how) for pair in zip(present, absent, strict=True) for kind in pair)


def attribute(scene: Scene, value: str, phrase: str = EXISTENCE_PHRASES[0]) -> Question:
    """Is there a circle? Is there a red shape? `value` is a colour or a shape."""
    is_colour = value in COLOURS
    count = scene.count(colour=value) if is_colour else scene.count(shape=value)
    return Question(
        "attribute", phrase.format(f"{value} shape" if is_colour else value), yes_no(count > 0), about=value
    )


def count(scene: Scene, colour: str | None = None, shape: str | None = None) -> Question:
    """How many circles, red shapes, red circles, or shapes at all? The answer is a number in digits."""
    what = " ".join(word for word in (colour, PLURALS[shape] if shape else "shapes") if word)
    answer = str(scene.count(colour, shape))
    return Question("count", f"How many {what} are in the image?", answer, about=what)


def colour(scene: Scene, shape: str) -> Question:
    """What colour is the circle? BenchmarkItems of a shape that stands in the picture once."""
    owners = [item.kind.colour for item in scene.items if item.kind.shape == shape]
    if len(owners) != 1:
        raise ValueError(f"the colour of the {shape} needs exactly one {shape} in the scene, not {len(owners)}")
    return Question("colour", f"What color is the {shape}?", owners[0], about=shape)


def position(scene: Scene, cell: int) -> Question:
    """What is in the top left? The answer is an object with its article, or "nothing"."""
    item = scene.at(cell)
    answer = f"a {item.kind}" if item else "nothing"
    return Question("position", f"What is in the {POSITIONS[cell]} of the image?", answer, about=POSITIONS[cell])


def place(scene: Scene, kind: Kind, cell: int) -> Question:
    """Is there a red circle in the top left of the image?"""
    item = scene.at(cell)
    prompt = f"Is there a {kind} in the {POSITIONS[cell]} of the image?"
    return Question("place", prompt, yes_no(item is not None and item.kind == kind), about=kind.name)


def verify_colour(scene: Scene, shape: str, value: str) -> Question:
    """Is the circle red? BenchmarkItems of a shape that stands in the picture once."""
    return Question("verify", f"Is the {shape} {value}?", yes_no(colour(scene, shape).answer == value), about=shape)


def verify_count(scene: Scene, shape: str, number: int) -> Question:
    """Are there 2 circles in the image? Exactly so many, that is."""
    what = f"Is there 1 {shape}" if number == 1 else f"Are there {number} {PLURALS[shape]}"
    return Question("verify", f"{what} in the image?", yes_no(scene.count(shape=shape) == number), about=shape)


def relation(first: SceneObject, side: str, second: SceneObject) -> Question:
    """Is the red circle above the blue square? By grid cell; `side` is one of SIDES.

    Ask it of kinds that stand there once.
    """
    holds = {
        "to the left of": first.column < second.column,
        "to the right of": first.column > second.column,
        "above": first.row < second.row,
        "below": first.row > second.row,
    }[side]
    return Question("relation", f"Is the {first.kind} {side} the {second.kind}?", yes_no(holds), about=first.kind.name)


def lettered(stem: str, options: tuple[str, ...], right: int, ending: str = CHOICE_ENDINGS[0]) -> Question:
    """A multiple-choice question: the stem, the options as (A), (B), ..., and the letter of the right one as answer."""
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"multiple choice takes 2 to {len(LETTERS)} options, not {len(options)}")
    lines = "\n".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=False))
    prompt = f"{stem}\n{lines}\n{ending}"
    return Question("choice", prompt, LETTERS[right], about=options[right], options=options)


def choice(
    scene: Scene, options: int, rng: random.Random, how: str = "random", ending: str = CHOICE_ENDINGS[0]
) -> Question:
    """Which of these is in the image? One present kind among `options` - 1 absent ones chosen by `how`."""
    right = rng.choice(scene.kinds)
    texts = [right.name, *(kind.name for kind in negatives(scene, options - 1, how, rng))]
    rng.shuffle(texts)
    return lettered("Which of these is in the image?", tuple(texts), texts.index(right.name), ending)


def colour_choice(scene: Scene, shape: str, rng: random.Random) -> Question:
    """What colour is the circle, as multiple choice of all colours."""
    question = colour(scene, shape)
    texts = rng.sample(COLOURS, len(COLOURS))
    return lettered(question.prompt, tuple(texts), texts.index(question.answer))


def single_shapes(scene: Scene) -> tuple[str, ...]:
    """The shapes that stand in the picture exactly once: those whose colour makes a question."""
    return tuple(shape for shape in SHAPES if scene.count(shape=shape) == 1)


def caption_text(scene: Scene) -> str:
    """ "a red circle, a blue square and a green star.": every item, in reading order."""
    names = [f"a {item.kind}" for item in scene.items]
    if len(names) == 1:
        return f"{names[0]}."
    return f"{', '.join(names[:-1])} and {names[-1]}."


def caption(scene: Scene, phrase: str = CAPTION_PHRASES[0]) -> Question:
    """Describe the image."""
    return Question("caption", phrase, caption_text(scene))


_MENTION = re.compile(rf"\b({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})\b")


def mentioned(text: str) -> tuple[Kind, ...]:
    """The kinds named in a text, in order, repeats kept."""
    return tuple(Kind(found[1], found[2]) for found in _MENTION.finditer(text.lower()))


RESERVED = (
    "picture photo photos pictures images object objects thing things list name all every any each anything show shows "
    "has have which where who why when same different other both only not but it its they on at an "
    "one two three four five six seven eight nine ten "
    "side next near large small option options letter say tell me word words number please can could i am sure no none"
)
"""Words that no question uses yet: known to the tokenizer, so that a longer training may give them meaning."""


def vocabulary() -> tuple[str, ...]:
    """Every word a question or an answer of this world can hold, lower case, without punctuation, sorted."""
    phrases = [
        *EXISTENCE_PHRASES,
        *CAPTION_PHRASES,
        *POSITIONS,
        *(kind.name for kind in KINDS),
        *PLURALS.values(),
        "How many shapes are in the image? What color is the shape? What colour? What is in the bottom of the image?",
        "Which of these is in the image? yes no nothing a, b, c and d.",
        "The first, the second, the third, the fourth image.",
        "Is the red circle to the left of, above, below it? Is there 1? Are there 2?",
        *CHOICE_ENDINGS,
        RESERVED,
        " ".join(str(number) for number in range(10)),
    ]
    return tuple(sorted(set(re.findall(r"[a-z0-9]+", " ".join(phrases).lower()))))
