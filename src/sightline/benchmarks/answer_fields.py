"""Under which field of an answers file a model's words stand: tables of many hands call the truth an answer, too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.errors import InputError
from sightline.files.jsonl import response_text

STRONG = (
    "response",
    "prediction",
    "pred",
    "output",
    "model_prediction",
    "generated_text",
    "model_answer",
    "filtered_resps",
)
"""Names that only a model's words bear."""

WEAK = ("answer", "text", "caption")
"""Names that the truth or the question may bear as well."""

RESPONSE_FIELDS = (*STRONG, *WEAK)

QUESTION_FIELDS = ("question", "prompt", "text", "query", "input")

FAILED_CALL = "Failed to obtain answer via API."
"""What VLMEvalKit writes where a model gave no answer."""

FEW = 20
"""Fewer answers may all equal the truth to the letter by being right."""


def response_words(record: Mapping[str, Any], name: str) -> str | None:
    """The words under a field; a list of one, as lmms-eval writes them, is its entry. None for a failed call."""
    value = record[name]
    while name in ("filtered_resps", "resps") and isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = response_text(value)
    return None if FAILED_CALL in text else text


def field_of(record: Mapping[str, Any], order: Sequence[str]) -> str | None:
    """The first field of the order that the record has."""
    return next((name for name in order if name in record), None)


def question_beside(record: Mapping[str, Any], taken: str | None) -> str | None:
    """The question that stands beside the words, which are under `taken`."""
    found = (record.get(name) for name in QUESTION_FIELDS if name != taken)
    return next((text for text in found if isinstance(text, str) and text.strip()), None)


def order_for(
    order: Sequence[str], pairs: Iterable[tuple[Mapping[str, Any], Any, str]], source: object
) -> tuple[str, ...]:
    """The fields in which to look for a model's words, of `order` those that are neither the truth nor the question.

    pairs: of every line its record, and its item's truth and question. A field that equals the truth of every item is
    the truth where another field may be the words.
    Raises InputError where such a field stands alone, as in a table without a model's words.
    """
    known = list(pairs)
    present = [name for name in order if any(name in record for record, _, _ in known)]
    questions = {name for name in present if name in WEAK and _all(known, name, _is_question)}
    if present and len(questions) == len(present):
        raise InputError(
            f"{source} holds no response: what stands under {present[0]!r} is each item's question; a model's words "
            f"are expected under one of {', '.join(STRONG[:3])}, ... (--field NAME)."
        )
    kept = [name for name in present if name not in questions]
    due = {name for name in kept if _all(known, name, _is_truth)}
    strong = [name for name in kept if name not in WEAK]
    others = [name for name in kept if name not in due]
    is_perfect = bool(strong) and strong[0] in due and all(name in WEAK for name in others)
    if due and others and not is_perfect:
        return tuple(name for name in order if name not in questions | due)
    if due == {"answer"} and not others and not strong and len(known) >= FEW:
        raise InputError(
            f"{source} holds no response: the field {kept[0]!r} equals the truth of each of its {len(known)} items, so "
            f"it is taken for the truth; give --field {kept[0]} if it holds a model's words."
        )
    return tuple(name for name in order if name not in questions)


def _all(pairs: Sequence[tuple[Mapping[str, Any], Any, str]], name: str, holds: Any) -> bool:
    found = [(record[name], truth, question) for record, truth, question in pairs if name in record]
    return bool(found) and all(holds(*entry) for entry in found)


def _is_truth(value: Any, truth: Any, question: str) -> bool:
    return isinstance(truth, str) and bool(truth) and _plain(value) == _plain(truth)


def _is_question(value: Any, truth: Any, question: str) -> bool:
    return isinstance(value, str) and bool(question.strip()) and _words(question) in _words(value)


def _plain(value: Any) -> str:
    return re.sub(r"[()\s.]", "", str(value)).casefold()


def _words(text: str) -> str:
    return " ".join(text.lower().split())
