"""Which objects a caption names: its words, their singulars, names of two words joined, synonyms looked up.

The steps are those of the CHAIR script (Rohrbach et al., arXiv 1809.02156; github.com/LisaAnne/Hallucination) and of
the Python 3 script in use today. Words are cut as NLTK's `word_tokenize` cuts them, as far as the objects go: a hyphen
or a slash joins ("dog/cat" is one word, and no object), a possessive ending is a word of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from sightline.benchmarks.singular import Singularize, find_singularize
from sightline.errors import InputError

_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub".split()

OFFICIAL_MERGES: dict[str, str] = {
    **{
        pair: pair
        for pair in (
            "motor bike",
            "motor cycle",
            "air plane",
            "traffic light",
            "street light",
            "traffic signal",
            "stop light",
            "fire hydrant",
            "stop sign",
            "parking meter",
            "suit case",
            "sports ball",
            "baseball bat",
            "baseball glove",
            "tennis racket",
            "wine glass",
            "hot dog",
            "cell phone",
            "mobile phone",
            "teddy bear",
            "hair drier",
            "potted plant",
            "laptop computer",
            "home plate",
            "train track",
        )
    },
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in _ANIMALS},
    "passenger jet": "jet",
    "passenger train": "train",
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",  # what pattern makes of "glass"
}
"""Two words that the scripts read as one. "home plate" and "train track" name no object: so no train is counted."""


class Mention(NamedTuple):
    """One place where a caption names an object: the word, in the singular, and the category it stands for."""

    word: str
    name: str


@dataclass(frozen=True)
class CaptionWords:
    """A caption as it is scored.

    mentions  in order, repeats included
    places    the number of the word that each mention is, counted from 0
    count     its words after joining, punctuation included, as the script in use counts a caption's length
    is_empty  whether it holds no word at all
    """

    mentions: tuple[Mention, ...]
    places: tuple[int, ...]
    count: int
    is_empty: bool


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What counts as naming which object; another world's is made by `vocabulary_of`.

    names        the category of each word or pair of words
    merges       pairs of words read as one word; those of `names` that are not here are never found
    singularize  makes a caption's words singular
    """

    names: Mapping[str, str]
    merges: Mapping[str, str]
    singularize: Singularize

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category, in order."""
        return tuple(dict.fromkeys(self.names.values()))

    def read(self, caption: str) -> CaptionWords:
        """The objects that a caption names. Any text will do."""
        tokens = tokenize(caption.lower())
        words = self._joined(self.singularize(tokens))
        if "toilet" in words and "seat" in words:  # a toilet's seat is no chair
            words = [word for word in words if word != "seat"]
        found = [(place, word) for place, word in enumerate(words) if word in self.names]
        mentions = tuple(Mention(word, self.names[word]) for _, word in found)
        return CaptionWords(
            mentions,
            tuple(place for place, _ in found),
            len(words),
            not any(character.isalnum() for character in caption),
        )

    @cached_property
    def _pair_starts(self) -> frozenset[str]:
        return frozenset(pair.split(" ")[0] for pair in self.merges)

    def _joined(self, words: list[str]) -> list[str]:
        if self._pair_starts.isdisjoint(words):
            return words
        joined: list[str] = []
        place = 0
        while place < len(words):
            pair = self.merges.get(" ".join(words[place : place + 2])) if words[place] in self._pair_starts else None
            joined.append(words[place] if pair is None else pair)
            place += 1 if pair is None else 2
        return joined


def vocabulary_of(
    lines: Iterable[Sequence[str]], merges: Mapping[str, str] | None = None, singular: str = "plain"
) -> Vocabulary:
    """A vocabulary of these categories, each with its synonyms, its name first; a later line wins a shared word.

    merges: pairs of words read as one; None: every name or synonym of two words, as itself.
    """
    names = {word: line[0] for line in lines for word in line}
    if merges is None:
        merges = {name: name for name in names if len(name.split(" ")) == 2}
    parts = {part for name in (*names, *merges, *merges.values()) for part in name.split(" ")}
    return Vocabulary(names, merges, find_singularize(singular, parts))


@lru_cache(maxsize=8)
def coco_vocabulary(synonyms: Path | None = None, singular: str = "plain") -> Vocabulary:
    """The 80 COCO categories with the synonyms of a file in the official format, by default with our own."""
    if synonyms is None:
        own = files("sightline.benchmarks").joinpath("data/coco_synonyms.txt").read_text(encoding="utf-8")
        lines = [line.split(", ") for line in own.splitlines()]
        pairs = {word: word for line in lines for word in line if word.count(" ") == 1}
        return vocabulary_of(lines, {**pairs, **OFFICIAL_MERGES}, singular)
    return vocabulary_of(read_synonyms(synonyms), OFFICIAL_MERGES, singular)


def read_synonyms(path: Path) -> list[list[str]]:
    """A file of lines "name, synonym, ...", cut as the scripts cut it: at a comma and one space, and nowhere else.

    So a word behind two spaces, or with a capital letter, is never found in a caption: the official file has some.
    Raises InputError for a file that cannot be read, is empty, or is of another kind.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InputError(f"The synonyms file {path} cannot be read ({reason}).") from error
    lines = [line.strip().split(", ") for line in text.split("\n") if line.strip()]
    if not lines or text.lstrip()[:1] in "[{" or "\0" in text:
        raise InputError(f'The synonyms file {path} holds no synonyms: lines of "name, synonym, ..." are expected.')
    for number, line in enumerate(lines, start=1):
        if any("," in word.strip(" ,") for word in line) or not line[0].strip(", "):
            raise InputError(
                f'{path}, line {number} with words on it: "{", ".join(line)[:60]}" is not of the form '
                '"name, synonym, ..." with a comma and a space between words.'
            )
    return lines


# Cutting a caption into words -----------------------------------------------------------------------------------------

_SENTENCE_END = re.compile(r"(?<=[^.])\.(?=\s|$|[)\";}\]*:@'({\[“”‘’«»])")
_LAST_PERIOD = re.compile(r"(?<=[^.])\.(?=[\])}>\"'»”’ ]*$)")
_SIGN = re.compile(r"[^\w\s.,/-]|\.\.|--")
_OPENING = re.compile(r"[«“‘„]|`+")
_QUOTED = re.compile(r"(^|[ (\[{<])\"")
_QUOTE_BEFORE_WORD = re.compile(r"(?<!\w)(?<!')'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)")
_COMMA = re.compile(r"[:,](\D|$)")
_APART = re.compile(r"\.{2,}|[;@#$%&?!*\[\](){}<>»”’\"\u2012-\u2015]|--|''")
_POSSESSIVE = re.compile(r"(?<=[^'\s])('[smd]?)(?=\s)")
_CONTRACTED = re.compile(r"(?<=[^'\s])('ll|'re|'ve|n't)(?=\s)")


def tokenize(text: str) -> list[str]:
    """The words and signs of a lower-case text, in order.

    A period is cut off where a sentence may end: before white space, a bracket or a quotation mark, not before a
    letter. Takes time linear in the text.
    """
    if "." in text:
        text = _SENTENCE_END.sub(" . ", text)
        text = _LAST_PERIOD.sub(" . ", text.rstrip())
    if "," in text or ":" in text:
        text = _COMMA.sub(r" , \1", text)
    if _SIGN.search(text) is None:  # most captions by people
        return text.split()
    if '"' in text:  # as NLTK writes them, which its tagger has learned
        text = _QUOTED.sub(r"\1 `` ", text).replace('"', " '' ")
    text = _OPENING.sub(r" \g<0> ", text)
    text = _QUOTE_BEFORE_WORD.sub(" ' ", text)
    text = _APART.sub(r" \g<0> ", text) + " "
    text = _POSSESSIVE.sub(r" \1", text)
    return _CONTRACTED.sub(r" \1", text).split()
