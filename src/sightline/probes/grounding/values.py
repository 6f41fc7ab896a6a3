"""What a grounding score is: of the words of one pass, and of one generated token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Scores:
    """Grounding of the words of one forward pass; in training it carries the graph.

    Attributes:
        values: [batch, positions of the pass], the mean over layers; 0 where `is_text` is False, never NaN for it.
        by_layer: [layers, batch, positions], alike, in the order of the layers chosen.
        is_text: [batch, positions], bool: text of samples that have an image. Padding is no text.
        patches: [batch, positions], the image position (in the sequence) that speaks most for the word, over all
            layers; -1 where there is none. None in training.
    """

    values: Float[Tensor, "batch positions"]
    by_layer: Float[Tensor, "layers batch positions"]
    is_text: Bool[Tensor, "batch positions"]
    patches: Int[Tensor, "batch positions"] | None = None


@dataclass(frozen=True)
class TokenScore:
    """Grounding of one generated token.

    Attributes:
        token, text: its id, and how it is written ("" on a bare model, which brings no tokenizer).
        score: the mean over layers; None for the last token of an answer, which the model is never given, and for
            prompts without an image.
        layers: the score by layer; empty where `score` is None.
        patch: which of the sample's image positions, from 0, speaks most for the token; None where `score` is.
        grid, row, column: the patch grid of the sample that it lies in, and where; None where grids are not known.
    """

    token: int
    text: str
    score: float | None
    layers: tuple[float, ...] = ()
    patch: int | None = None
    grid: int | None = None
    row: int | None = None
    column: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {**self.__dict__, "layers": list(self.layers)}
