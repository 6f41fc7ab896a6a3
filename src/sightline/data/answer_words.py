"""The words of an answer: which carry meaning, and where they stand."""

from __future__ import annotations

import unicodedata
from typing import Any, TypeAlias

Word: TypeAlias = "tuple[int, int, int]"
"""(start, end, label): characters start to end (exclusive) of an answer; label 1 grounded, 0 hallucinated."""

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any each every all both either neither no none not nor such another other others
    i me my mine myself we us our ours ourselves you your yours yourself he him his himself she her hers herself it its
    itself they them their theirs themselves who whom whose which what someone something anyone anything nothing one
    ones and or but so yet if then than because while although though as whether until unless since
    of in on at by for with without about against between among into through during before after above below over under
    to from up down out off near next beside besides behind across along around onto upon within toward towards inside
    outside beneath underneath amid
    is are was were be been being am isn aren wasn weren has have had having hasn haven hadn do does did doing done can
    could couldn will won would wouldn shall should shouldn may might must mustn
    there here where when why how again also too very just only even still already quite rather more most much many few
    several lots lot bit kind sort yes ok
    t s d ll m re ve don doesn didn
    """.split()
)
"""English words that name nothing a picture shows."""

FRAME_WORDS = frozenset(
    "image images picture pictures photo photos photograph photographs scene view shows show showing shown depicts "
    "depicting features featuring contains containing appears appear seems".split()
)
"""Words about the picture as a whole: no patch of it shows them."""


def letter_runs(text: str) -> list[tuple[int, int]]:
    """(start, end) of each run of letters and their marks. "dog's" is two, as "t-shirt": no label falls on a sign."""
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for place, character in enumerate([*text, " "]):
        if _is_letter(character):
            start = place if start is None else start
        elif start is not None:
            runs.append((start, place))
            start = None
    return runs


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


def content_words(text: str) -> tuple[Word, ...]:
    """The words of a true answer that name something, each labelled 1 (grounded)."""
    return tuple((start, end, 1) for start, end in letter_runs(text) if is_content(text[start:end]))


def is_content(word: str) -> bool:
    """Whether a single word names something that a picture can show."""
    known = word.casefold()
    return bool(known) and known not in FUNCTION_WORDS and known not in FRAME_WORDS


def word_fault(words: Any, answer: str) -> str | None:
    """What is wrong with word labels read from a file, as half a sentence; None when they are right.

    They must be [start, end, label] of whole numbers within the answer, label 0 or 1, in order, and none over another.
    """
    if not isinstance(words, list | tuple):
        return "the words are no list of [start, end, label]"
    last = 0
    for number, word in enumerate(words, start=1):
        if not isinstance(word, list | tuple) or len(word) != 3 or any(type(part) is not int for part in word):
            return f"word {number} is no [start, end, label] of whole numbers"
        start, end, label = word
        if not 0 <= start < end <= len(answer):
            return f"word {number} spans characters {start} to {end} of an answer of {len(answer)}"
        if label not in (0, 1):
            return f"word {number} has the label {label}, and 1 (grounded) or 0 (hallucinated) is expected"
        if start < last:
            return f"word {number} begins before the end of the one before it"
        last = end
    return None
