"""Chat templates are programs of their own: one that fails, or never ends, is a sentence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sightline.errors import InputError
from sightline.models.vlm import chat


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A processor whose template ends with the test."""
    over, asked = threading.Event(), []
    monkeypatch.setattr(chat, "PATIENCE", 0.05)
    monkeypatch.setattr(chat, "_endless", set())

    def apply(messages: Any, **_: Any) -> str:
        asked.append(messages)
        over.wait(60)
        return ""

    yield SimpleNamespace(chat_template="{% for %}", apply_chat_template=apply, asked=asked)
    over.set()


def test_a_template_that_never_ends_is_tried_once(endless: Any) -> None:
    for _ in range(3):
        with pytest.raises(InputError, match="does not end within 0 seconds: mend it"):
            chat.templated(endless, [{"role": "user", "content": "?"}], {})
    with pytest.raises(InputError, match="does not end"):
        chat.keeps_places(endless)
    assert len(endless.asked) == 1


def test_a_template_that_fails_is_a_sentence_wherever_it_is_read() -> None:
    def apply(*_: Any, **__: Any) -> str:
        raise RuntimeError("only two\nturns")

    processor = SimpleNamespace(chat_template="x", apply_chat_template=apply)
    with pytest.raises(InputError, match="refuses the turns user, assistant: only two turns"):
        chat.templated(processor, [{"role": "user"}, {"role": "assistant"}], {})
    with pytest.raises(InputError, match="refuses the turns user: only two turns"):
        chat.keeps_places(processor)
