"""Which tokens of an answer carry a label: the words that name something, found in the text and not by counting.

Words are spans of characters in the answer; tokens are tied to them by the tokenizer's own offsets, or, for a tokenizer
that keeps none, by decoding ever longer beginnings. Function words, digits, punctuation, the chat template, the prompt
and padding never carry a label.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sightline.data.answer_words import Word
from sightline.errors import InputError
from sightline.models.vlm.chat import rendered, templated

IGNORED = -1.0
"""The label of a token that says nothing about the picture."""


# Tokens --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AnswerTurn:
    """What a chat template puts around an answer.

    glue: between the words that ask for an answer and the answer. closing: behind it, the end token included.
    """

    glue: str = ""
    closing: str = ""

    def ending(self, answer: str) -> str:
        """All that follows the prompt."""
        return self.glue + answer + self.closing


_QUESTION, _ANSWER = "Question", "Xanswerx"


def turn_of(processor: Any, is_multimodal: bool = True) -> AnswerTurn:
    """How this processor's chat template writes the assistant's turn.

    The template is applied to the same conversation with and without an answer. Where it has no such turn, or one that
    does not continue its own prompt (it adds thinking), the answer follows the prompt and the end token follows it.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    end = str(tokenizer.eos_token or "")
    if not getattr(processor, "chat_template", None):
        return AnswerTurn(" ", end)

    def turn_of_answer(role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "text", "text": text}] if is_multimodal else text}

    question = [turn_of_answer("user", _QUESTION)]
    prompt, whole = templated(processor, question, {}), ""
    with suppress(InputError):  # a template may know no turn of an assistant's
        whole = rendered(processor, [*question, turn_of_answer("assistant", _ANSWER)], {})
    before, found, closing = whole.rpartition(_ANSWER)
    if not found or not before.startswith(prompt):
        return AnswerTurn("" if prompt[-1:].isspace() else " ", end)
    return AnswerTurn(before[len(prompt) :], closing if end in closing else closing + end)


@dataclass(frozen=True)
class TailTokens:
    """The tokens behind a prompt: their ids, and the characters of the text behind it that each stands for.

    A span that begins below 0 is of a token that began within the prompt.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def place_in(self, row: Sequence[int]) -> int | None:
        """Where these tokens stand in a row of token ids, the last place; None where they do not."""
        width = len(self.ids)
        wanted = list(self.ids)
        for start in range(len(row) - width, -1, -1):
            if list(row[start : start + width]) == wanted:
                return start
        return None

    def labels(self, words: Sequence[Word], shift: int) -> list[float]:
        """A label a token: that of the word it has a character of, IGNORED where there is none.

        shift: characters before the answer in the text behind the prompt. Of two words in one token 0 prevails.
        """
        found = [IGNORED] * len(self.ids)
        for number, (start, end) in enumerate(self.spans):
            if start < 0:
                continue
            touched = [label for first, last, label in words if start < last + shift and end > first + shift]
            if touched:
                found[number] = float(min(touched))
        return found


def tail_tokens(tokenizer: Any, before: str, text: str) -> TailTokens:
    """The tokens that stand for `text` where it follows `before`, as the tokenizer cuts the whole."""
    if getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(before + text, add_special_tokens=False, return_offsets_mapping=True)
        spans = [(start - len(before), end - len(before)) for start, end in encoded["offset_mapping"]]
        first = next((number for number, (_, end) in enumerate(spans) if end > 0), len(spans))
        return TailTokens(tuple(encoded["input_ids"][first:]), tuple(spans[first:]))
    whole = tokenizer(before + text, add_special_tokens=False)["input_ids"]
    alone = tokenizer(before, add_special_tokens=False)["input_ids"]
    first = _common(whole, alone)
    return TailTokens(tuple(whole[first:]), tuple(_spans_by_decoding(tokenizer, whole[first:], alone[first:], text)))


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(left), len(right)))


def _spans_by_decoding(
    tokenizer: Any, ids: Sequence[int], overlapped: Sequence[int], text: str
) -> list[tuple[int, int]]:
    """Spans by decoding the first 1, 2, ... tokens; characters are compared without spaces, which decoding moves.

    overlapped: the prompt's last tokens, where these are cut otherwise once the text follows.
    """
    extra = len(_solid(tokenizer.decode(list(overlapped)))) if overlapped else 0
    places = [place for place, character in enumerate(text) if not character.isspace()]
    reached, ends = 0, []
    for count in range(1, len(ids) + 1):
        decoded = _solid(tokenizer.decode(list(ids[:count])))
        # A character of several tokens decodes to a replacement sign until its last one is there.
        is_open = decoded.endswith("\ufffd")
        reached = max(reached, len(decoded.rstrip("\ufffd")))
        ends.append((reached, is_open))
    whole = _solid(tokenizer.decode(list(ids)))
    where = _matched(whole[extra:], "".join(text[place] for place in places))
    spans: list[tuple[int, int]] = []
    start = 0
    for reached, is_open in ends:
        stop = max(reached, start + 1) if is_open else reached
        if start < extra:
            spans.append((-1, 0))
        else:
            inside = [where[number] for number in range(start - extra, min(stop - extra, len(where)))]
            known = [places[number] for number in inside if number is not None]
            spans.append((known[0], known[-1] + 1) if known else (len(text), len(text)))
        start = reached
    return spans


def _solid(text: str) -> str:
    return "".join(character for character in text if not character.isspace())


def _matched(decoded: str, wanted: str) -> list[int | None]:
    """For each decoded character the one of the text it stands for; tokenizers may have changed case, or lost some."""
    if len(decoded) == len(wanted):
        return list(range(len(wanted)))
    where: list[int | None] = [None] * len(decoded)
    left, right = decoded.lower(), wanted.lower()
    if len(left) != len(decoded) or len(right) != len(wanted):
        left, right = decoded, wanted
    for block in difflib.SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks():
        for step in range(block.size):
            where[block.a + step] = block.b + step
    return where
