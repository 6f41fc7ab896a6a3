"""What stands inside a `generate` of the live page: the text as it is written, given tokens, and what is cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import torch
from torch import Tensor

from sightline.attention import AttentionCall, Block, Edit, ForwardPass
from sightline.live.question import Cut
from sightline.models.vlm import VLM

RUNNERS_UP = 5
"""Tokens named beside the one that was written."""

OnText = Callable[[str], None]


@dataclass
class Written:
    """Follows one `generate`: streams the text, keeps the log-probabilities of every step, and stops when it is to."""

    vlm: VLM
    on_text: OnText
    stop: Event
    logs: list[Tensor] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    shown: str = ""
    has_prompt: bool = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.logs.append(scores[0].float().log_softmax(-1).cpu())
        return scores

    def put(self, value: Tensor) -> None:
        """Called by `generate`: first with the prompt, then with each new token."""
        if not self.has_prompt:
            self.has_prompt = True
            return
        self.tokens.extend(value.reshape(-1).tolist())
        text = self.vlm.tokenizer.decode(self.tokens, skip_special_tokens=True).lstrip()
        if not text.endswith("\ufffd") and text.startswith(self.shown):  # half a character waits for its other half
            self.on_text(text[len(self.shown) :])
            self.shown = text

    def end(self) -> None:
        """Called by `generate` when it is done."""

    def stopped(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """The stopping criterion."""
        return torch.full((len(input_ids),), self.stop.is_set(), dtype=torch.bool, device=input_ids.device)

    def words(self, tokens: Sequence[int]) -> list[dict[str, Any]]:
        """Each token's probability and its runners-up."""
        return [self._word(token, logs) for token, logs in zip(tokens, self.logs, strict=False)]

    def _word(self, token: int, logs: Tensor) -> dict[str, Any]:
        best = logs.topk(min(RUNNERS_UP + 1, len(logs)))
        others = [(int(place), float(log)) for log, place in zip(*best, strict=True) if int(place) != token]
        return {
            "probability": round(math.exp(float(logs[token])), 6),
            "runners": [
                [self.vlm.tokenizer.decode([place]), round(math.exp(log), 6)] for place, log in others[:RUNNERS_UP]
            ],
        }


@dataclass
class Forced:
    """Logits processor that has `generate` write given tokens and notes their log-probabilities."""

    tokens: tuple[int, ...]
    logs: list[float] = field(default_factory=list)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        token = self.tokens[len(self.logs)]
        self.logs.append(float(scores[0].float().log_softmax(-1)[token]))
        forced = torch.full_like(scores, -math.inf)
        forced[:, token] = 0
        return forced


class Cutter:
    """The editor (see `sightline.attention.attach`) behind `Engine.cut`."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut

    def begin(self, step: ForwardPass) -> None:
        """A forward pass starts."""

    def edit(self, layer: int, call: AttentionCall, step: ForwardPass) -> Edit | None:
        """Hide the positions from every other row; silence the heads of this layer."""
        heads = [head for at, head in self._cut.heads if at == layer]
        if not self._cut.positions and not heads:
            return None
        device = call.query.device
        keys = torch.zeros(call.keys, dtype=torch.bool, device=device)
        places = torch.tensor(self._cut.positions, dtype=torch.long, device=device) - call.first_key
        keys[places[(places >= 0) & (places < call.keys)]] = True
        rows = torch.arange(call.queries, device=device)

        def hidden(block: Block) -> Tensor:
            own = (block.rows[:, None] + call.offset - call.first_key) == torch.arange(call.keys, device=device)
            return block.values.masked_fill(keys & ~own, -math.inf)

        def silenced(block: Block) -> Tensor:
            values = block.values.clone()
            for head in heads:
                if block.head <= head < block.head + values.shape[1]:
                    values[:, head - block.head] = 0
            return values

        return Edit(rows, scores=hidden if self._cut.positions else None, weights=silenced if heads else None)
