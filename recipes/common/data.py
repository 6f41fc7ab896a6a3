"""Training batches: some pictures, and many conversations about each that cannot see each other.

A user asks one question right after the image. So every conversation ("branch") sees the prefix with the image and
itself only, at the positions it would have alone; packing them behind one image makes an image cost once what twenty
questions share.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sightline.zoo import questions as ask
from sightline.zoo.questions import Question
from sightline.zoo.world import COLOURS, GRID, KINDS, SHAPES, Kind, Scene, negatives

TASKS = ("existence", "attribute", "count", "colour", "position", "place", "verify", "relation", "choice", "caption")
ANSWER_WEIGHT = {"caption": 3.0}
END_WEIGHT = 0.05
LENGTHS = (0, 16, 28, 44, 64, 1000)


@dataclass(frozen=True)
class Mix:
    """How many questions of each task stand behind one image (a fraction is a probability)."""

    existence: float = 8
    attribute: float = 2
    count: float = 1.5
    colour: float = 0.5
    position: float = 1.5
    place: float = 1.0
    verify: float = 0.7
    relation: float = 0.5
    choice: float = 2.0
    caption: float = 1.0


FIRST = Mix()
"""Existence above all, until words find their patches."""

LATER = Mix(
    existence=3, attribute=0.7, count=1, colour=0.4, position=1.5, place=0.8, verify=0.5, relation=0.4, choice=1.2
)
"""Fewer questions an image, so that more images fit a step: captions, places and choices want many pictures."""


@dataclass(frozen=True)
class Group:
    """Conversations of about one length, padded to it on the right.

    ids, labels, owners: (conversations, length); weights: the same, float; images: (conversations,) which image of
    the batch each is about; is_blind: (conversations,) bool. labels: the token to be said next, -1 where nothing is
    learned. owners: which question (index into the batch's `asked`) a label belongs to.
    """

    ids: Tensor
    labels: Tensor
    owners: Tensor
    weights: Tensor
    images: Tensor
    is_blind: Tensor


@dataclass(frozen=True)
class Batch:
    """Conversations about some images, grouped by length, and the questions in them."""

    groups: tuple[Group, ...]
    asked: tuple[Question, ...]


def near_miss(scene: Scene, rng: random.Random) -> Kind:
    """An absent kind as close to the picture as can be: both its colour and its shape are there where possible."""
    colours = {kind.colour for kind in scene.kinds}
    shapes = {kind.shape for kind in scene.kinds}
    absent = [kind for kind in KINDS if kind not in scene.kinds]
    both = [kind for kind in absent if kind.colour in colours and kind.shape in shapes]
    one = [kind for kind in absent if (kind.colour in colours) != (kind.shape in shapes)]
    return rng.choice(both if both and rng.random() < 0.6 else one or absent)


def _existence(scene: Scene, rng: random.Random) -> Question:
    phrase = rng.choices(ask.EXISTENCE_PHRASES, (7, 1, 1, 1))[0]
    if rng.random() < 0.5:
        return ask.existence(scene, rng.choice(scene.kinds), phrase)
    # Never by popularity or company: what is common stays likelier to be there, as it is for large models.
    if rng.random() < 0.35:
        return ask.existence(scene, near_miss(scene, rng), phrase, split="near")
    return ask.existence(scene, negatives(scene, 1, "random", rng)[0], phrase, split="random")


def _attribute(scene: Scene, rng: random.Random) -> Question:
    values = COLOURS if rng.random() < 0.5 else SHAPES
    here = [value for value in values if scene.count(colour=value) or scene.count(shape=value)]
    gone = [value for value in values if value not in here]
    value = rng.choice(here if rng.random() < 0.5 or not gone else gone)
    return ask.attribute(scene, value, rng.choices(ask.EXISTENCE_PHRASES, (7, 1, 1, 1))[0])


def _count(scene: Scene, rng: random.Random) -> Question:
    kind = rng.choice(scene.items).kind if rng.random() < 0.7 else rng.choice(KINDS)
    which = rng.random()
    if which < 0.35:
        return ask.count(scene, colour=kind.colour)
    if which < 0.7:
        return ask.count(scene, shape=kind.shape)
    return ask.count(scene) if which < 0.8 else ask.count(scene, kind.colour, kind.shape)


def _colour(scene: Scene, rng: random.Random) -> Question:
    shapes = ask.single_shapes(scene)
    if not shapes:
        return _count(scene, rng)
    question = ask.colour(scene, rng.choice(shapes))
    return (
        question
        if rng.random() < 0.5
        else Question("colour", question.prompt.replace("color", "colour"), question.answer, about=question.about)
    )


def _position(scene: Scene, rng: random.Random) -> Question:
    cell = rng.choice(scene.items).cell if rng.random() < 0.7 else rng.randrange(GRID * GRID)
    return ask.position(scene, cell)


def _place(scene: Scene, rng: random.Random) -> Question:
    item = rng.choice(scene.items)
    if rng.random() < 0.5:
        return ask.place(scene, item.kind, item.cell)
    if rng.random() < 0.5:
        return ask.place(scene, item.kind, rng.randrange(GRID * GRID))
    return ask.place(scene, near_miss(scene, rng), item.cell)


def _verify(scene: Scene, rng: random.Random) -> Question:
    shapes = ask.single_shapes(scene)
    if shapes and rng.random() < 0.5:
        shape = rng.choice(shapes)
        truth = ask.colour(scene, shape).answer
        return ask.verify_colour(scene, shape, truth if rng.random() < 0.5 else rng.choice(COLOURS))
    shape = rng.choice(scene.items).kind.shape
    number = scene.count(shape=shape)
    return ask.verify_count(scene, shape, number if rng.random() < 0.5 else rng.choice((1, 2, 2, 3)))


def _relation(scene: Scene, rng: random.Random) -> Question:
    single = [item for item in scene.items if scene.count(item.kind.colour, item.kind.shape) == 1]
    pairs = [(a, b) for a in single for b in single if a is not b]
    if not pairs:
        return _verify(scene, rng)
    first, second = rng.choice(pairs)
    sides = [*ask.SIDES[:2]] * (first.column != second.column) + [*ask.SIDES[2:]] * (first.row != second.row)
    return ask.relation(first, rng.choice(sides), second)


def _choice(scene: Scene, rng: random.Random) -> Question:
    shapes = ask.single_shapes(scene)
    if shapes and rng.random() < 0.15:
        return ask.colour_choice(scene, rng.choice(shapes), rng)
    return ask.choice(scene, rng.randint(2, 10), rng, ending=rng.choices(ask.CHOICE_ENDINGS, (3, 1))[0])


def _caption(scene: Scene, rng: random.Random) -> Question:
    return ask.caption(scene, rng.choice(ask.CAPTION_PHRASES))


MAKERS: dict[str, Callable[[Scene, random.Random], Question]] = {
    "existence": _existence,
    "attribute": _attribute,
    "count": _count,
    "colour": _colour,
    "position": _position,
    "place": _place,
    "verify": _verify,
    "relation": _relation,
    "choice": _choice,
    "caption": _caption,
}


def draw_questions(scene: Scene, mix: Mix, rng: random.Random) -> list[Question]:
    """Questions about one scene, as many of each task as the mix says."""
    drawn: list[Question] = []
    for task in TASKS:
        amount = getattr(mix, task)
        times = int(amount) + (rng.random() < amount % 1)
        drawn.extend(MAKERS[task](scene, rng) for _ in range(times))
    return drawn


@dataclass(frozen=True)
class Conversation:
    """Questions asked one after the other.

    is_blind: it cannot see the image, and so learns what is likely (a language prior).
    """

    turns: tuple[Question, ...]
    is_blind: bool = False


def converse(
    asked: list[Question], rng: random.Random, blind: float = 0.05, longer: float = 0.12
) -> list[Conversation]:
    """Mostly one question a conversation; a share `longer` of two or three turns; a share `blind` without the image."""
    rest = rng.sample(asked, len(asked))
    talks: list[Conversation] = []
    while rest:
        turns = rng.choice((2, 3)) if rng.random() < longer else 1
        talks.append(Conversation(tuple(rest[:turns]), is_blind=rng.random() < blind))
        rest = rest[turns:]
    return talks


@dataclass(frozen=True)
class Form:
    """How a family's chat template writes a conversation about one image.

    before: all that stands before the image. after: between the image and the first question. turn: before the
    question of a later turn. ask: between a question and its answer. After an answer stands the tokenizer's end token.
    """

    before: str
    after: str
    turn: str
    ask: str


class Packer:
    """Turns conversations about images into batches of token ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, form: Form) -> None:
        self.tokenizer = tokenizer
        self.form = form
        self.head = tokenizer.encode(form.before)
        self._cache: dict[str, list[int]] = {}

    def _tokens(self, text: str) -> list[int]:
        if text not in self._cache:
            if len(self._cache) > 20_000:
                self._cache.clear()
            self._cache[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self._cache[text]

    def _talk(self, talk: Conversation, first: int) -> tuple[list[int], list[float], list[int]]:
        """Tokens of one conversation; for each the weight of saying it, and the question (from `first`) it answers."""
        tokens: list[int] = []
        weights: list[float] = []
        owners: list[int] = []
        for turn, question in enumerate(talk.turns):
            first_words = self.form.turn if turn else self.form.after
            prompt = self._tokens(f"{first_words}{question.prompt}{self.form.ask}")
            answer = self._tokens(question.answer)
            share = ANSWER_WEIGHT.get(question.task, 1.0) / len(answer)
            tokens += [*prompt, *answer, self.tokenizer.eos_token_id]
            weights += [*[0.0] * len(prompt), *[share] * len(answer), END_WEIGHT]
            owners += [*[-1] * len(prompt), *[first + turn] * (len(answer) + 1)]
        return tokens, weights, owners

    def pack(self, talks: list[list[Conversation]]) -> Batch:
        """`talks[i]` are the conversations about image i."""
        flat: list[Question] = []
        rows: list[tuple[list[int], list[float], list[int], int, bool]] = []
        for image, about in enumerate(talks):
            for talk in about:
                rows.append((*self._talk(talk, len(flat)), image, talk.is_blind))
                flat.extend(talk.turns)
        rows.sort(key=lambda row: len(row[0]))
        groups = []
        for low, high in pairwise(LENGTHS):
            members = [row for row in rows if low < len(row[0]) <= high]
            if members:
                groups.append(self._group(members))
        return Batch(tuple(groups), tuple(flat))

    def _group(self, rows: list[tuple[list[int], list[float], list[int], int, bool]]) -> Group:
        length = len(rows[-1][0]) - 1
        ids = np.full((len(rows), length), self.tokenizer.pad_token_id)
        labels, owners = np.full((len(rows), length), -1), np.full((len(rows), length), -1)
        weights = np.zeros((len(rows), length), dtype=np.float32)
        for index, (tokens, said, about, _, _) in enumerate(rows):
            end = len(tokens) - 1
            ids[index, :end] = tokens[:-1]
            weights[index, :end] = said[1:]
            owners[index, :end] = about[1:]
            labels[index, :end] = np.where(weights[index, :end] > 0, tokens[1:], -1)
        return Group(
            ids=torch.from_numpy(ids),
            labels=torch.from_numpy(labels),
            owners=torch.from_numpy(owners),
            weights=torch.from_numpy(weights),
            images=torch.tensor([row[3] for row in rows]),
            is_blind=torch.tensor([row[4] for row in rows]),
        )
