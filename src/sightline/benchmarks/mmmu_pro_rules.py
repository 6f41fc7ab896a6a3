"""MMMU-Pro's own words: its configurations, prompts and disciplines, and how evaluate.py reads an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sightline.benchmarks import choices

CONFIGS = {
    "vision": ("vision",),
    "standard (10 options)": ("standard-10", "standard"),
    "standard (4 options)": ("standard-4",),
}
"""The official names of configurations, each with its short forms."""

INSTRUCTIONS = {
    ("direct", "standard"): "Answer with the option letter from the given choices directly.",
    ("direct", "vision"): (
        "Answer with the option letter from the given choices directly. The last line of your response should be of "
        "the following format: 'Answer: $LETTER' (without quotes) where LETTER is one of options."
    ),
    ("cot", "standard"): (
        "Answer the preceding multiple choice question. The last line of your response should be of the following "
        "format: 'Answer: $LETTER' (without quotes) where LETTER is one of options. Think step by step before "
        "answering."
    ),
    ("cot", "vision"): (
        "Write out the multiple-choice question in the image and then solve it. The last line of your response should "
        "be of the following format: 'Answer: $LETTER' (without quotes) where LETTER is one of options. Think step by "
        "step before answering."
    ),
}
"""prompts.yaml of the official repository, by mode and kind of configuration."""

DISCIPLINES = {
    "Art and Design": "Art Art_Theory Design Music",
    "Business": "Accounting Economics Finance Manage Marketing",
    "Science": "Biology Chemistry Geography Math Physics",
    "Health and Medicine": (
        "Basic_Medical_Science Clinical_Medicine Diagnostics_and_Laboratory_Medicine Pharmacy Public_Health"
    ),
    "Humanities and Social Science": "History Literature Sociology Psychology",
    "Tech and Engineering": (
        "Agriculture Architecture_and_Engineering Computer_Science Electronics Energy_and_Power Materials "
        "Mechanical_Engineering"
    ),
}
DISCIPLINE_OF = {subject: name for name, subjects in DISCIPLINES.items() for subject in subjects.split()}


def official_letter(response: str, options: Sequence[str]) -> str | None:
    """The letter that evaluate.py's parse_multi_choice_response reads; None where it would draw one at random.

    After the last "Answer:" a letter that is the only one of the options' letters to stand there, even within a word.
    Else, in the response without , . ! ? ; : ' at its ends, the last "(A)"; without one, among all letters that stand
    before a space ("FDA x"), or else before a full stop, the last of those with a space on both sides, and the first in
    the alphabet where none has; without one, in a response of over five words, the option whose text stands last.
    """
    known = choices.letters(len(options))
    _, marker, tail = response.rpartition("Answer:")
    named = [letter for letter in known if letter in tail]
    if marker and len(named) == 1:
        return named[0]
    for sign in ",.!?;:'":
        response = response.strip(sign)
    text = f" {response} "
    bracketed = [letter for letter in known if f"({letter})" in text]
    if bracketed:
        return max(bracketed, key=lambda letter: text.rfind(f"({letter})"))
    standing = [letter for letter in known if f"{letter} " in text] or [
        letter for letter in known if f"{letter}." in text
    ]
    if standing:
        return max(standing, key=lambda letter: text.rfind(f" {letter} "))
    lower = text.lower()
    places = {letter: lower.rfind(option.lower()) for letter, option in zip(known, options, strict=True)}
    standing_options = [letter for letter, place in places.items() if place >= 0]
    return max(standing_options, key=places.__getitem__) if standing_options and len(text.split()) > 5 else None


def subject_of(number: str) -> str:
    """ "Art_Theory" of "test_Art_Theory_425"."""
    found = re.fullmatch(r"[^_]*_(.+?)_\d+", number)
    return found[1] if found else ""
