"""A model that thinks before it answers has room to end, and what was cut off is counted by its own limit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sightline.benchmarks.base import Item
from sightline.benchmarks.thinking import thought_end
from sightline.jobs.answers import THINKING_TOKENS, answerer
from sightline.jobs.benchmark_score import _at_limit
from sightline.jobs.sample_maps import thought_tokens
from sightline.runs.records import Record


class Model:
    """Answers with so many tokens as it may."""

    name, revision = "stub", None
    anatomy = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=None))
    tokenizer = SimpleNamespace(decode=lambda row, **_: f"{len(row)} words")

    def __init__(self, thinks: bool) -> None:
        self.thinks = thinks

    def prepare(self, samples: Any, **_: Any) -> Any:
        return samples

    def encode(self, ready: Any) -> Any:
        return ready

    def generate_tokens(self, inputs: Any, max_new_tokens: int, **_: Any) -> list[list[int]]:
        return [[0] * max_new_tokens for _ in inputs]


BENCH: Any = SimpleNamespace(asks_without_image=True, sample=lambda item: SimpleNamespace(prompt=item.prompt))


@pytest.mark.parametrize(
    ("thinks", "thinking", "most"),
    [(False, THINKING_TOKENS, 8), (True, 0, 8), (True, THINKING_TOKENS, 8 + THINKING_TOKENS)],
)
def test_only_a_model_that_thinks_has_more_new_tokens(thinks: bool, thinking: int, most: int) -> None:
    vlm: Any = Model(thinks)
    (result,) = answerer(vlm, BENCH, None, 8, thinking=thinking)([Item("a", "What?", ())])
    assert result["tokens"] == most
    assert result.get("limit") == (most if most > 8 else None)
    assert _at_limit([Record("a", result=result)], 8) == 1.0
    shorter = {**result, "tokens": most - 1}
    assert _at_limit([Record("a", result=shorter)], 8) == 0.0


class Letters:
    """A tokenizer whose tokens are characters."""

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


@pytest.mark.parametrize(
    ("thought", "answer"),
    [("<think>no</think>", "Yes"), ("no</think>", "Yes"), ("", "Yes"), ("<think>never ends", ""),
     ("<think>a</think>b<think>c</think>", "d"), ("\u25c1think\u25b7no\u25c1/think\u25b7", "yes")],
)  # fmt: skip
def test_words_of_a_map_that_are_thoughts_are_counted(thought: str, answer: str) -> None:
    assert thought_end(thought + answer) == len(thought)
    assert thought_tokens(Letters(), [ord(sign) for sign in thought + answer]) == len(thought)
