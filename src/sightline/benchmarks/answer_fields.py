"""Under which field of an answers file a model's words stand: tables of many hands call the truth an answer, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    "model_output",
    "model_response",
    "predict",
    "predicted_answer",
    "pred_answer",
    "generated_answer",
    "generation",
    "completion",
    "filtered_resps",
)
"""Names that only a model's words bear."""

WEAK = ("answer", "text", "caption")
"""Names that the truth or the question may bear as well."""

RESPONSE_FIELDS = (*STRONG, *WEAK)

QUESTION_FIELDS = ("question", "prompt", "text", "query", "input")

BESIDE = frozenset(
    "question_id idx image_id id index image image_path file_name category split group subtask sub_task task label"
    " target gt ground_truth truth annotation gold source dataset type question_type model model_id method options"
    " choices hint lang language question prompt text query input answer caption".split()
)
"""Fields that are known to be no model's words, whatever else a table holds."""

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
    """The question that stands beside the words, which are under `taken`; a text that asks nothing may be the words."""
    found = ((name, record.get(name)) for name in QUESTION_FIELDS if name != taken)
    texts = ((name, text) for name, text in found if isinstance(text, str) and text.strip())
    return next((text for name, text in texts if name != "text" or "?" in text), None)


Line = tuple[Mapping[str, Any], Sequence[str], str]
"""An answer's record, its item's truth in every form that tables write it in, and its question."""


def truth_forms(truth: Any, options: Any = None) -> tuple[str, ...]:
    """The right answer as tables write it: itself; a letter as number and option; yes and no as numbers and words."""
    if not isinstance(truth, str) or not truth:
        return ()
    if truth.lower() in ("yes", "no"):
        return (truth, *(("1", "true") if truth.lower() == "yes" else ("0", "false")))
    place = ord(truth) - ord("A") if len(truth) == 1 and truth.isupper() else None
    if place is None:
        return (truth,)
    listed = options if isinstance(options, list | tuple) else ()
    return truth, str(place), str(place + 1), *map(str, listed[place : place + 1])


def order_for(order: Sequence[str], lines: Iterable[Line], source: object) -> tuple[str, ...]:
    """The fields in which to look for a model's words, of `order` those that are neither the truth nor the question.

    A field that equals the truth of every item is the truth where another field may be the words.
    Raises InputError where such a field stands alone, as in a table without a model's words, or where it cannot be
    known which of two is which.
    """
    known = list(lines)
    present = [name for name in order if any(_holds_words(record.get(name)) for record, _, _ in known)]
    questions = {name for name in present if name in WEAK and _all(known, name, _is_question)}
    if present and len(questions) == len(present):
        raise InputError(
            f"{source} holds no response: what stands under {present[0]!r} is each item's question; a model's words "
            f"are expected under one of {', '.join(STRONG[:3])}, ... (--field NAME)."
        )
    kept = [name for name in present if name not in questions]
    due = {name for name in kept if _is_due(known, name)}
    strong = [name for name in kept if name not in WEAK]
    others = [name for name in kept if name not in due]
    if not kept:
        return tuple(order)
    beside = [name for name in kept if name in WEAK and _stands_beside(known, name, strong)]
    if strong and due.issuperset(strong):
        rivals = [name for name in beside if name not in due]
        if rivals and len(known) >= FEW:
            raise InputError(
                f"{source}: what stands under {strong[0]!r} equals the truth of each of its {len(known)} items, and "
                f"{rivals[0]!r} stands beside it: give --field with the one that holds the model's words."
            )
        due -= {*strong}  # a model that is always right
    if strong:
        return tuple(name for name in kept if name not in beside and not (name in due and name in strong))
    if due and others:
        return tuple(others)
    unknown = _unknown(known) if due else []
    if due == {"answer"} and (len(known) >= FEW or unknown):
        also = f" ({', '.join(map(repr, unknown[:3]))} may hold the words)" if unknown else ""
        raise InputError(
            f"{source} holds no response: the field {kept[0]!r} equals the truth of each of its {len(known)} items, so "
            f"it is taken for the truth{also}; give --field {kept[0]} if it holds a model's words."
        )
    return tuple(kept)


def _holds_words(value: Any) -> bool:
    return value not in (None, "", [])


def _stands_beside(lines: Sequence[Line], name: str, strong: Sequence[str]) -> bool:
    """Whether a line has this field and a model's words under another name."""
    return any(name in record and any(each in record for each in strong) for record, _, _ in lines)


def _unknown(lines: Sequence[Line]) -> list[str]:
    """Fields of every line that may be a model's words under a name of their own: text that is not always the same."""
    first, *rest = (record for record, _, _ in lines)
    shared = [name for name in first if name not in BESIDE and all(name in record for record in rest)]
    texts = {name: {str(record[name]) for record, _, _ in lines} for name in shared if isinstance(first[name], str)}
    return [name for name, found in texts.items() if len(found) > 1 and len(name) > 1]


def _is_due(lines: Sequence[Line], name: str) -> bool:
    """Whether a field is the truth of every item, in one of the forms that it is written in."""
    found = [(record[name], forms) for record, forms, _ in lines if name in record]
    count = min((len(forms) for _, forms in found), default=0)
    return any(all(_plain(value) == _plain(forms[form]) for value, forms in found) for form in range(count))


def _all(lines: Sequence[Line], name: str, holds: Callable[[Any, str], bool]) -> bool:
    found = [(record[name], question) for record, _, question in lines if name in record]
    return bool(found) and all(holds(*entry) for entry in found)


def _is_question(value: Any, question: str) -> bool:
    return isinstance(value, str) and bool(question.strip()) and _words(question) in _words(value)


def _plain(value: Any) -> str:
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return re.sub(r"[()\s.]", "", str(value)).casefold()


def _words(text: str) -> str:
    return " ".join(text.lower().split())
