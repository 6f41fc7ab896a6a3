"""How an answer changes: logits of a run with something hidden, beside those of the untouched run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

EFFECTS = ("logit", "prob", "logprob", "kl", "flip")
"""Names of the causal maps."""


@dataclass(frozen=True)
class RowAnswer:
    """The untouched answer at a row, and the token that is followed.

    logits: [vocabulary], float64; token: the one followed; predicted: the likeliest.
    """

    logits: Float[Tensor, " vocabulary"]
    token: int
    predicted: int

    @classmethod
    def of(cls, logits: Float[Tensor, " vocabulary"], target: int | None) -> RowAnswer:
        """target: the token to follow; None for the likeliest."""
        predicted = int(logits.argmax())
        return cls(logits.double(), predicted if target is None else target, predicted)

    def baseline(self) -> dict[str, float | int]:
        """The untouched run in numbers; "predicted" and its probability where another token is followed."""
        logs = self.logits.log_softmax(0)
        log = float(logs[self.token])
        other = {"predicted": self.predicted, "predicted_prob": float(logs[self.predicted].exp())}
        return (other if self.predicted != self.token else {}) | {
            "token": self.token,
            "logit": float(self.logits[self.token]),
            "prob": float(torch.tensor(log).exp()),
            "logprob": log,
        }

    def effects(
        self,
        logits: Float[Tensor, "variants vocabulary"],
        untouched: Float[Tensor, "variants vocabulary"] | None = None,
    ) -> dict[str, Float[Tensor, " variants"]]:
        """What each variant's logits differ by; "kl" is sum_y p(y) (log p(y) - log q(y)) in nats, p untouched.

        untouched: what each is held against, where it was computed in another way than the answer itself.
        """
        parts: list[list[Tensor]] = []
        beside = self.logits.expand_as(logits) if untouched is None else untouched
        for rows, others in zip(torch.split(logits, 64), torch.split(beside, 64), strict=True):
            log, plain = rows.double().log_softmax(1), others.double().log_softmax(1)
            parts.append(
                [
                    rows[:, self.token].double() - others[:, self.token].double(),
                    log[:, self.token].exp() - plain[:, self.token].exp(),
                    log[:, self.token] - plain[:, self.token],
                    (plain.exp() * (plain - log)).nan_to_num(nan=0.0).sum(1).clamp(min=0),
                    (rows.argmax(1) != others.argmax(1)).double(),
                ]
            )
        return {name: torch.cat(column) for name, column in zip(EFFECTS, zip(*parts, strict=True), strict=True)}
