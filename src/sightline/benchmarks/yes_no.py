"""Reading yes or no out of an answer: as the official scripts of POPE and MME do, and without guessing."""

from __future__ import annotations

import re
from typing import Literal

from sightline.benchmarks.thinking import spoken
from sightline.errors import InputError

YesNo = Literal["yes", "no"]


def pope_official(response: str) -> YesNo:
    """As POPE's evaluate.py: the text before the first ".", commas taken out, cut at single spaces; "no" where one of
    its words is exactly No, not or no. Everything else is "yes": an empty answer, "NO", "Nope" and "no!" too.
    """
    words = response.split(".", 1)[0].replace(",", "").split(" ")
    return "no" if any(word in ("No", "not", "no") for word in words) else "yes"


def mme_official(response: str) -> YesNo | None:
    """As MME's calculation.py: in lower case, "yes" or else "no" anywhere in the first four characters.

    So "Not", "Know" and "Norway" are "no", and two leading spaces hide a yes. Other answers are None ("other" there).
    """
    start = response.lower()[:4]
    if "yes" in start:
        return "yes"
    return "no" if "no" in start else None


def strict(response: str) -> YesNo | None:
    """What the answer says, and None unless it says one of yes and no, and not the other.

    The text is cut into clauses at every sign that is no letter, digit, space or apostrophe, and at line ends. A clause
    says yes where "yes" is one of its words, in any case; it says no where "no" is its last word or a new sentence
    follows ("no it is not"). Both only where no negation stands before in the clause ("not yes"). So "no" before a noun
    is no answer ("no idea", "there is no dog": as little as "there is a dog"), and "yes or no" is none either.
    What stands in thinking tags is left out. Words of other languages are not read.
    """
    labels: set[YesNo] = set()
    for clause in _BREAKS.split(spoken(response).lower()):
        words = [word.strip("'’") for word in clause.split()]
        for place, word in enumerate(words):
            if _is_negation(word):
                break
            if word == "yes":
                labels.add("yes")
            elif word == "no" and (place + 1 == len(words) or words[place + 1] in _OPENERS):
                labels.add("no")
        if len(labels) == 2:
            return None
    return labels.pop() if labels else None


def says_either(response: str) -> bool:
    """Whether yes, no or not stands anywhere in the answer as a word, in any case."""
    return _EITHER.search(response) is not None


def yes_no_truth(label: object) -> YesNo | None:
    """A label in any case, None when it is neither yes nor no."""
    word = str(label).strip().lower()
    return "yes" if word == "yes" else "no" if word == "no" else None


def worded(template: str | None, question: str) -> str:
    """The prompt: the question itself, or the template with it; InputError for a template without its place."""
    if template is None:
        return question
    if "{question}" not in template:
        raise InputError(f"The template {template!r} has no place for the question: {{question}} marks it.")
    return template.replace("{question}", question)


_BREAKS = re.compile(r"[^\w\s'’]+|[_\r\n]+")
_EITHER = re.compile(r"\b(?:yes|no|not)\b", re.IGNORECASE)
_OPENERS = frozenset("i you he she it we they there this that these those the a an not because as since".split())


def _is_negation(word: str) -> bool:
    return word in ("not", "never", "neither", "nor", "cannot") or word.endswith(("n't", "n’t"))
