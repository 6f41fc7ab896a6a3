"""Swaps of one object, colour or count in a caption for another that the image does not hold."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sightline.data.answer_words import Word, content_words, is_content
from sightline.data.lexicon import COLOURS, NUMBERS, Lexicon, Noun, article

COMPANY_TOP = 5
"""Of the absent objects so many that keep most company are drawn from."""


@dataclass(frozen=True)
class Truth:
    """What an image is known to hold.

    lexicon: its objects' words
    objects: how many of each are there at least
    texts: all that is written of it
    is_complete: whether nothing else is there, as in a drawn scene; else colours are trusted only when no text names
        them
    """

    lexicon: Lexicon
    objects: Mapping[str, int]
    texts: tuple[str, ...] = ()
    is_complete: bool = False


@dataclass(frozen=True)
class CoOccurrence:
    """How often objects are seen in the same image: together[a][b]."""

    together: Mapping[str, Counter[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, images: Iterable[Iterable[str]]) -> CoOccurrence:
        """Counted over the object names of each image."""
        together: dict[str, Counter[str]] = {}
        for names in images:
            present = sorted(set(names))
            for name in present:
                together.setdefault(name, Counter()).update(other for other in present if other != name)
        return cls(together)

    def closest(self, candidates: Sequence[str], present: Iterable[str]) -> list[str]:
        """The candidates that most often keep company with what is present; none that never did."""
        known = [self.together[name] for name in sorted(set(present)) if name in self.together]
        counts = {name: sum(row[name] for row in known) for name in candidates}
        return sorted((name for name in candidates if counts[name]), key=lambda name: (-counts[name], name))[
            :COMPANY_TOP
        ]


@dataclass(frozen=True)
class Swap:
    """Characters start to end of a caption are to be `text`; label covers what of the new text is false."""

    start: int
    end: int
    text: str
    false: tuple[int, int]


def negative_of(
    caption: str, truth: Truth, company: CoOccurrence, kinds: Sequence[str], rng: random.Random, together: float = 0.5
) -> tuple[str, str, tuple[Word, ...]] | None:
    """(kind, false caption, its word labels), of the first of `kinds` that this caption has something of; or None."""
    makers: dict[str, Callable[[], list[Swap]]] = {
        "object": lambda: _object_swaps(caption, truth, company, rng, together),
        "attribute": lambda: _colour_swaps(caption, truth, rng),
        "count": lambda: _count_swaps(caption, truth, rng),
    }
    for kind in kinds:
        swaps = makers[kind]()
        if swaps:
            return (kind, *_swapped(caption, rng.choice(swaps)))
    return None


def _object_swaps(caption: str, truth: Truth, company: CoOccurrence, rng: random.Random, together: float) -> list[Swap]:
    named = set().union(*(truth.lexicon.named(text) for text in (*truth.texts, caption)))
    absent = [name for name in sorted(truth.lexicon.forms) if name not in named and not truth.objects.get(name)]
    swaps = []
    for start, end, noun in _swappable(caption, truth.lexicon):
        if not absent:
            continue
        close = company.closest(absent, set(truth.objects) | named)
        chosen = rng.choice(close) if close and rng.random() < together else rng.choice(absent)
        swaps.append(_placed(caption, start, end, truth.lexicon.forms[chosen][noun.is_plural]))
    return swaps


def _swappable(caption: str, lexicon: Lexicon) -> list[tuple[int, int, Noun]]:
    """The mentions that surely mean an object which another can stand in for."""
    return [
        (start, end, nouns[0])
        for start, end, nouns in lexicon.mentions(caption)
        if nouns[0].name in lexicon.forms and nouns[0].is_certain and not _is_colour(caption, start, end)
    ]


def _is_colour(caption: str, start: int, end: int) -> bool:
    """Whether a word for an object is a colour here: an orange is a fruit; orange in "an orange cat" is not."""
    if caption[start:end].lower() not in COLOURS:
        return False
    before = _WORD_BEFORE.search(caption[:start])
    after = _WORD_AFTER.match(caption[end:])
    has_article = before is not None and before[1].lower() in ("a", "an", "the")
    return not has_article or (after is not None and is_content(after[1]))


_WORD_BEFORE = re.compile(r"([^\W_]+)\s+$")
_WORD_AFTER = re.compile(r"\s+([^\W\d_]+)")


_COLOUR = re.compile(rf"\b(?:{'|'.join(COLOURS)}|grey)\b", re.IGNORECASE)


def _colour_swaps(caption: str, truth: Truth, rng: random.Random) -> list[Swap]:
    """Of a drawn scene: any colour that leaves a kind which is not there; else colours that nobody mentions."""
    swaps = []
    if truth.is_complete:
        for start, end, nouns in truth.lexicon.mentions(caption):
            shape = nouns[0].name.split()[-1]
            absent = [
                name
                for name in sorted(truth.lexicon.forms)
                if name.split()[-1] == shape and not truth.objects.get(name)
            ]
            if absent:
                length = len(caption[start:end].split()[0])
                swaps.append(_placed(caption, start, start + length, rng.choice(absent).split()[0]))
        return swaps
    named = {_colour(match[0]) for text in (*truth.texts, caption) for match in _COLOUR.finditer(text)}
    free = [colour for colour in COLOURS if colour not in named]
    fruits = {start for start, end, _ in _swappable(caption, truth.lexicon) if caption[start:end].lower() in COLOURS}
    for match in _COLOUR.finditer(caption):
        if free and match.start() not in fruits:
            swaps.append(_placed(caption, match.start(), match.end(), rng.choice(free)))
    return swaps


def _colour(word: str) -> str:
    return word.lower().replace("grey", "gray")


_NUMBER = re.compile(rf"\b({'|'.join(NUMBERS[1:])}|[2-9]|10)\b", re.IGNORECASE)


def _count_swaps(caption: str, truth: Truth, rng: random.Random) -> list[Swap]:
    """More than any text or annotation knows. Counts above ten are all alike."""
    swaps = []
    most = max([1, *(_value(match[0]) for text in (*truth.texts, caption) for match in _NUMBER.finditer(text))])
    for start, end, noun in _swappable(caption, truth.lexicon):
        known = truth.objects.get(noun.name, 0)
        floor = known if truth.is_complete else max(most, known)
        higher = range(floor + 1, min(floor + 4, len(NUMBERS) + 1))
        before = _WORD_BEFORE.search(caption[:start])
        if not higher or before is None:
            continue
        number, at, word = rng.choice(higher), before.start(), before[1]
        if noun.is_plural and _NUMBER.fullmatch(word):
            text = str(number) if word.isdigit() else _like(word, NUMBERS[number - 1])
            swaps.append(Swap(at, at + len(word), text, (0, len(text))))
        elif word.lower() in ("a", "an") and not _has_verb(caption[end:]):
            plural = truth.lexicon.forms[noun.name][1]
            count = _like(word, NUMBERS[number - 1])
            swaps.append(Swap(at, end, count + before[0][len(word) :] + plural, (0, len(count))))
    return swaps


_SINGULAR_VERB = re.compile(r"^\s*(?:,?\s*(?:which|that|who)\s+)?(?:is|has|was|does|sits|stands|[a-z]+s)\b")


def _has_verb(rest: str) -> bool:
    """Whether a verb follows that would have to change with the number."""
    return bool(_SINGULAR_VERB.match(rest))


def _value(word: str) -> int:
    return int(word) if word.isdigit() else NUMBERS.index(word.lower()) + 1


def _like(old: str, new: str) -> str:
    """With a capital where the old one had it."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


_ARTICLE = re.compile(r"\b(an?)(\s+)$", re.IGNORECASE)


def _placed(caption: str, start: int, end: int, new: str) -> Swap:
    """The new word in the place of an old one, and the article before it as it must be."""
    text = _like(caption[start:end], new)
    found = _ARTICLE.search(caption[:start])
    if found is None:
        return Swap(start, end, text, (0, len(text)))
    lead = _like(found[1], article(new)) + found[2]
    return Swap(found.start(), end, lead + text, (len(lead), len(lead) + len(text)))


def _swapped(caption: str, swap: Swap) -> tuple[str, tuple[Word, ...]]:
    text = caption[: swap.start] + swap.text + caption[swap.end :]
    false = (swap.start + swap.false[0], swap.start + swap.false[1])
    words = [word for word in content_words(text) if word[1] <= false[0] or word[0] >= false[1]]
    return text, tuple(sorted([*words, (*false, 0)]))
