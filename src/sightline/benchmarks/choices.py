"""What benchmarks of lettered options share: reading options and letters, and counting right answers."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.benchmarks.base import Item, Verdict
from sightline.benchmarks.thinking import spoken
from sightline.data.messages import IMAGE_MARKER
from sightline.errors import InputError


def letters(count: int) -> list[str]:
    """The letters of so many options: A, B, C, ..."""
    return [chr(ord("A") + place) for place in range(count)]


def options_of(value: object) -> list[str]:
    """Options from a list, or from a Python list written as text, as MMMU-Pro has it: literals alone, never evaluated.

    Raises ValueError, saying why, when it is no list of at least one option.
    """
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(f"the options {str(value)[:60]!r} are no list of literals") from error
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"the options {str(value)[:60]!r} are no list of at least one")
    return [str(option) for option in value]


def strict_letter(response: str, known: Sequence[str]) -> str | None:
    """The letter that an answer gives as its answer, and None when it gives none, several, or one not in `known`.

    After the last "answer:" (in any case), or in all of the text where that does not stand, a letter counts where it
    opens the text or follows "answer is" or "option", and a sign, the end of the line or a word that no article can
    stand before ("A is closer", "A because") comes next; and wherever it is in brackets or in a LaTeX box. A small
    letter counts in brackets alone.
    A letter that is denied ("not (A)", "A is wrong") makes the answer none.
    So the article of "A dog" and the pronoun of "I think" are no answers, and "(A) is wrong, so (B)" is none either.
    Left out before: thinking, special tokens such as "<s>", and the signs of Markdown; full-width signs and no-break
    spaces count as the plain ones.
    """
    text = unicodedata.normalize("NFKC", spoken(response)) if not response.isascii() else spoken(response)
    text = _ANSWER.split(_SPECIAL.sub("", text))[-1]
    boxed = {letter.upper() for letter in _BOXED.findall(text)}
    text = _MARKDOWN.sub("", text)
    if _DENIED.search(text):
        return None
    small = {letter.upper() for letter in _SMALL.findall(text)} & set(known)
    named = {*_BRACKETED.findall(text), *_STATED.findall(text), *small, *boxed}
    if opening := _OPENING.match(text):
        named.add(opening[1])
    return named.pop() if len(named) == 1 and named <= set(known) else None


_ANSWER = re.compile(r"\b(?:answer|choice)[*_\s]*:|答案[是为]?:?", re.IGNORECASE)
_SPECIAL = re.compile(r"</?s>|<(?:pad|eos|bos|unk|end_of_turn)>|<\|[^|<>\n]{1,40}\|>|[\u200b-\u200f\ufeff]")
_MARKDOWN = re.compile(r"[*_`\"'$]|\\boxed\{[^{}]*\}")
_BOXED = re.compile(r"\\boxed\{\s*\(?(?:\\(?:text|mathrm|textbf|mathbf)\{)?\s*\(?([A-Za-z])\)?\s*\}")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_SMALL = re.compile(r"(?<!\w)\(([a-z])\)")
_CLOSED = (
    r"[ \t]*(?:[.:)\]]|[\r\n]|$|-[ \t]|,[ \t]*(?:because|since|as|so)\b|,?[ \t]+(?:because|since)\b"
    r"|[ \t]+(?:is|was|would|seems|appears|looks|has|shows|matches)\b)"
)
_OPENING = re.compile(
    r"[\s(\[]*(?:option|choice|point|image|the answer|answer)?[\s(\[]*(?-i:([A-Z]))" + _CLOSED, re.IGNORECASE
)
_STATED = re.compile(
    r"\b(?:(?:answer|option|choice)\s+(?:is|would be|must be)|option|choice)\s*:?\s*(?:option\s*|choice\s*)?"
    r"[(\[]?(?-i:([A-Z]))" + _CLOSED,
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|neither|nor|except)\s+(?:option\s+)?\(?[A-Z]\b(?:\)|[.,:]|$)"
    r"|(?<!\w)\(?[A-Z]\)?,?\s+(?:is|was)(?:n't|\s+(?:not|wrong|incorrect|false|neither))\b"
)


def without_markers(text: str) -> str:
    """A question's own words, in which nothing marks a place for an image."""
    return text.replace(IMAGE_MARKER, "< image >")


def worded(template: str, values: Mapping[str, str], needed: str = "") -> str:
    """A template with each `{name}` of the values filled in; InputError when the place of the needed one is missing."""
    if needed and "{" + needed + "}" not in template:
        raise InputError(f"The template {template!r} has no place for the {needed}: {{{needed}}} marks it.")
    names = "|".join(map(re.escape, values))
    return re.sub(r"\{(" + names + r")\}", lambda found: values[found[1]], template)


def chosen(split: str | None, names: Mapping[str, Sequence[str]], what: str) -> list[str]:
    """The official names that a `split` of several joined by `+` stands for, in the order of `names`; None: none.

    Args:
        names: official names, each with its short forms; case, signs and spaces do not matter.
        what: what they are called in the InputError about an unknown one.
    """
    forms = {plain_name(form): name for name, short in names.items() for form in (name, *short)}
    wanted = [part for part in (split or "").split("+") if part.strip()]
    for part in wanted:
        if plain_name(part) not in forms:
            listed = ", ".join(short[0] if short else name for name, short in names.items())
            raise InputError(f"There is no {what} {part.strip()!r}; they are {listed}, or several joined by +.")
    meant = {forms[plain_name(part)] for part in wanted}
    return [name for name in names if name in meant]


def plain_name(name: str) -> str:
    """A name without case, signs and spaces, to compare it."""
    return re.sub(r"[\W_]", "", name.casefold())


def figures(items: Iterable[Item], judgements: Mapping[str, Verdict]) -> dict[str, Any]:
    """{"n", "accuracy"} of the items that have a judgement; accuracy is None of nothing."""
    judged = [judgements[item.id] for item in items if item.id in judgements]
    return {"n": len(judged), "accuracy": mean(judgement.right for judgement in judged)}


def grouped(items: Iterable[Item], key: str) -> dict[str, list[Item]]:
    """Items by what `about` says under a key, in alphabetical order; those without it are left out."""
    found: dict[str, list[Item]] = {}
    for item in items:
        if item.about.get(key):
            found.setdefault(str(item.about[key]), []).append(item)
    return dict(sorted(found.items()))


def mean(values: Iterable[float]) -> float | None:
    """The mean, None of nothing."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
