"""An answer that the live page keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sightline.live.question import LiveQuestion


@dataclass(frozen=True)
class LiveAnswer:
    """An answer and what is needed to look into it: its encoded inputs, new tokens and their log-probabilities."""

    name: str
    question: LiveQuestion
    inputs: Any
    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    document: dict[str, Any]
