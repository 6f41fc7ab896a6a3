"""Controls without a second look: a tilt to yes, and the cut-off of contrastive decoding alone (arXiv 2504.10020)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.generating import Processor, check_share, cut_off, processed
from sightline.models.word_tokens import require_tokens


@register
@dataclass(frozen=True)
class YesBias(Method):
    """Answers yes wherever the model is in two minds: it matches contrastive decoding's gains on POPE without a look.

        where p_yes + p_no > mass and |p_yes - p_no| < margin:   p'(yes) = 1

    p: [rows, vocabulary]. p_yes and p_no are the probabilities of all ways in which the answer may begin with that
    word (Yes, yes, with a space before it; one token each); the likeliest of them is what is written. With `mass` at
    0.2 and `margin` at 0.5 this is the output layer modification of arXiv 2504.10020 (its public code reads the two
    tokens Yes and No alone). Of a gain that this control has too, the image is not the cause. It acts in `generate`;
    margin = 0 changes nothing.
    """

    name: ClassVar[str] = "yes_bias"
    mass: float = setting(0.2, "yes and no together must be likelier than this, 0 to 1")
    margin: float = setting(0.5, "they must lie closer than this, 0 (never) to 1")
    yes: tuple[int, ...] | None = setting(None, "ids of tokens that mean yes; by default the tokenizer's")
    no: tuple[int, ...] | None = setting(None, "ids of tokens that mean no; by default the tokenizer's")

    def __post_init__(self) -> None:
        check_share(self.name, mass=self.mass, margin=self.margin)

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside.

        Raises:
            InputError: for a model without a tokenizer where `yes` or `no` is not given.
        """
        anatomy, _ = anatomy_and_layout(model, layout)
        require_tokens(self.name, anatomy, (*(self.yes or ()), *(self.no or ())))
        yes, no = (torch.tensor(ids or _tokens(model, word)) for ids, word in ((self.yes, "yes"), (self.no, "no")))

        def tilted(input_ids: Tensor, scores: Tensor) -> Tensor:
            return self.tilt(scores, yes.to(scores.device), no.to(scores.device))

        with processed(self.name, anatomy, _constant(tilted), follows=False):
            yield

    def tilt(
        self, scores: Float[Tensor, "rows vocabulary"], yes: Tensor, no: Tensor
    ) -> Float[Tensor, "rows vocabulary"]:
        """p' above, as scores."""
        p = scores.softmax(-1)
        for_yes, for_no = p[:, yes].sum(-1), p[:, no].sum(-1)
        torn = (for_yes + for_no > self.mass) & ((for_yes - for_no).abs() < self.margin)
        chosen = yes[scores[:, yes].argmax(-1)]
        certain = torch.full_like(scores, -inf).scatter(1, chosen[:, None], 0.0)
        return torch.where(torn[:, None], certain, scores)


@register
@dataclass(frozen=True)
class CutOff(Method):
    """The cut-off of contrastive decoding without its contrast: it changes nothing but what sampling may draw.

        l' = l,    -inf where p < beta max p

    l: [rows, vocabulary]. Where a contrast gains under sampling, this says how much of it is the cut-off (arXiv
    2504.10020). It acts in `generate`; with greedy decoding answers are the model's own.
    """

    name: ClassVar[str] = "cut_off"
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")

    def __post_init__(self) -> None:
        check_share(self.name, beta=self.beta)

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside."""
        anatomy, _ = anatomy_and_layout(model, layout)

        def cut(input_ids: Tensor, scores: Tensor) -> Tensor:
            return cut_off(scores, scores, self.beta)

        with processed(self.name, anatomy, _constant(cut), follows=False):
            yield


def _constant(processor: Processor) -> Any:
    """The same processor for every `generate`."""

    @contextmanager
    def begin(given: Mapping[str, Any]) -> Iterator[Processor]:
        yield processor

    return begin


def _tokens(model: Any, word: str) -> list[int]:
    """The tokens with which an answer may begin that means this word: those of its forms that are one token."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise InputError(f"yes_bias needs a tokenizer: give a VLM, or the fields yes and no (here: {word}).")
    forms = [space + form for form in (word.capitalize(), word) for space in ("", " ")]
    encoded = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in forms]
    unknown = getattr(tokenizer, "unk_token_id", None)
    found = sorted({ids[0] for ids in encoded if len(ids) == 1} - {unknown})
    if not found:
        raise InputError(f"yes_bias finds no single token for {word!r} in this tokenizer: give the fields yes and no.")
    return found
