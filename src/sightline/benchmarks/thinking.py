"""Answers of models that think first: what stands in their thinking tags is no answer, and is left out before scoring.

The tags are those of the families' own chat templates. A template may write the opening tag into the prompt, so an
answer may have the closing one alone; an answer that ends inside its thinking has no words at all.
"""

from __future__ import annotations

import re

_TAGS: tuple[tuple[str, str], ...] = (
    (r"<(?:seed:)?think(?:ing)?>", r"</(?:seed:)?think(?:ing)?>"),  # Qwen, DeepSeek, GLM, InternVL, MiMo, Seed
    (r"◁think▷", r"◁/think▷"),  # Kimi-VL
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    (r"<\|channel\|?>(?:analysis|thought)(?:<\|message\|>)?", r"<\|end\|>|<channel\|>|<\|channel\|>final<\|message\|>"),
    (r"<reasoning>", r"</reasoning>"),
    (r"<unused94>thought", r"<unused95>"),  # MedGemma
)
_PAIRS = tuple((re.compile(first, re.IGNORECASE), re.compile(last, re.IGNORECASE)) for first, last in _TAGS)
_FINAL = re.compile(r"<\|start\|>assistant|<\|channel\|>final<\|message\|>")
_WRAPPED = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.IGNORECASE | re.DOTALL)
_BOXED = re.compile(r"<\|begin_of_(?:box|solution)\|>(.*?)(?:<\|end_of_(?:box|solution)\|>|$)", re.DOTALL)
_MARKS = ("think", "THINK", "thought", "<|", "<reason", "<answer", "<ANSWER", "<Think", "<Answer")


def spoken(response: str) -> str:
    """The answer without its thinking; unchanged where there is none, blank ends kept.

    Where thinking stood, the blanks around what is left are taken away. `<answer>` and the box tags of GLM are the
    tags of the answer itself: of several the last counts.
    """
    if not any(mark in response for mark in _MARKS):
        return response
    text = response
    for first, last in _PAIRS:
        text = _without(text, first, last)
    text = _FINAL.sub("", text)
    for tags in (_WRAPPED, _BOXED):
        if found := tags.findall(text):
            text = found[-1]
    return response if text == response else text.strip()


def thought_end(response: str) -> int:
    """Where the answer begins behind its thinking: 0 without any, the whole length where the thinking never ends."""
    ends = [found.end() for _, last in _PAIRS for found in last.finditer(response)]
    opened = [found.start() for first, _ in _PAIRS for found in first.finditer(response)]
    last = max(ends, default=0)
    return len(response) if any(start >= last for start in opened) else last


def _without(text: str, first: re.Pattern[str], last: re.Pattern[str]) -> str:
    ends = list(last.finditer(text))
    if ends:  # whatever stands before the last closing tag was thought, with or without an opening one
        text = text[ends[-1].end() :]
    opened = first.search(text)
    return text if opened is None else text[: opened.start()]
