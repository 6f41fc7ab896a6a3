"""Contrast with a second pass: the model is run once more on a changed prompt, beside every step of `generate`.

    score(y) = (1 + w) log p(y | prompt) - w log p(y | changed prompt),    -inf where log p(y) < log(floor) + max log p

The second pass runs the model untouched: other methods and probes neither see nor change it. What its prompt has in
common with the first's is not run again (the encoder's work; where words alone differ, all positions before them), and
from the first generated token on both passes are one batch, where that can be (`side_by_side.why_apart`). Scores are
not normalised again (as in the public code of both methods that use this); give `generate` `renormalize_logits=True`
for beams scored by probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.methods.base import Method, anatomy_and_layout
from sightline.methods.generating import Processor, cut_off, processed
from sightline.methods.second_pass import Change, SecondPass
from sightline.models.anatomy import Anatomy


def contrast(
    first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], weight: float, floor: float
) -> Float[Tensor, "rows vocabulary"]:
    """The scores above, from the logits of both passes (or their log-probabilities: a constant a row is no matter)."""
    given, other = first.log_softmax(-1), second.log_softmax(-1)
    return cut_off((1 + weight) * given - weight * other, given, floor)


@dataclass(frozen=True)
class ContrastMethod(Method):
    """Base: `change` says how the second pass differs, `combine` how its logits are set against the first's."""

    @property
    def has_contrast(self) -> bool:
        """Whether these settings need the second pass at all."""
        return True

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """How the second pass of one `generate`, which was given `given`, differs from the first.

        model: what `.on` was given, a `VLM` or a bare model.
        """
        raise NotImplementedError

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """The scores, from the logits of both passes; step: tokens generated before, from 0."""
        raise NotImplementedError

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every `generate` inside.

        Raises:
            InputError: for a prompt without an image.
            ModelError: for a model that lets an inner language model generate.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        if not self.has_contrast:
            yield
            return

        @contextmanager
        def begin(given: Mapping[str, Any]) -> Iterator[Processor]:
            change = self.change(anatomy, model, source, given)
            second = SecondPass(self.name, anatomy, given, change, self.combine)
            with getattr(change, "acting", nullcontext)(), second.following():
                yield second

        with processed(self.name, anatomy, begin):
            yield
