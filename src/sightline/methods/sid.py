"""SID: self-introspective decoding (arXiv 2408.02032, ICLR 2025; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.attention import EditedCall, ForwardPass
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.dropping import LayerPruning
from sightline.methods.generating import check_least, check_share
from sightline.methods.pruning import best_tokens, check_keep, kept_count
from sightline.methods.scoring import prompt_layout, require_image
from sightline.methods.second_pass import Change, same_prompt
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import cache_of


@register
@dataclass(frozen=True)
class SID(ContrastMethod):
    """Contrasts with a pass that keeps, behind its first layers, only the image tokens that are least attended to.

        kept from layer K on: the `keep` image tokens of the lowest mean over heads of a[last, j] in layer K - 1
        l' = (1 + alpha) l - alpha l_least,     -inf where p < beta max p

    a: attention weights of the second pass itself, on the prompt; l, l_least: [rows, vocabulary], log-probabilities. It
    is `fastv` with its ranking turned round, as a contrast. The second pass has a cache of its own, shorter than the
    first's, and runs the model without other methods. It acts in `generate`. alpha = 0 changes nothing. Layers are
    counted from 0. Controls: `cut_off:beta=0.1`, `yes_bias`: arXiv 2504.10020 finds the gain on POPE to be theirs.
    """

    name: ClassVar[str] = "sid"
    alpha: float = setting(1.0, "weight of the contrast, 0 (none) or more")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    K: int = setting(2, "first layer of the second pass that runs on fewer tokens, 1 to the model's last")
    keep: float = setting(100.0, "image tokens that it keeps: a share up to 1, or a number above it")

    def __post_init__(self) -> None:
        check_least(self.name, 0, alpha=self.alpha)
        check_share(self.name, beta=self.beta)
        check_keep(self.name, self.keep)

    @property
    def has_contrast(self) -> bool:
        """Whether the second pass counts."""
        return bool(self.alpha)

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """The same prompt, of which deeper layers see little."""
        return _LeastAttended(self, anatomy, layout, given)

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        return contrast(first, second, self.alpha, self.beta)

    def least(self, scores: Tensor, image: Tensor, total: int) -> Tensor:
        """[positions], bool: which positions of one sample stay."""
        return best_tokens(-scores, image, kept_count(total, self.keep))


class _LeastAttended:
    """Prunes the second pass."""

    def __init__(self, method: SID, anatomy: Anatomy, source: LayoutSource | None, given: Mapping[str, Any]) -> None:
        self._method, self._anatomy, self._given = method, anatomy, given
        self._layout = prompt_layout(anatomy, source, given)
        require_image(method.name, self._layout)
        self._dropping = LayerPruning(method.name, anatomy, {method.K: method.least}, in_bypassed=True)
        self._step: ForwardPass | None = None
        self._rows = self._layout.batch

    @contextmanager
    def acting(self) -> Iterator[None]:
        """For one `generate`."""
        attention: Any = self._anatomy.attentions[self._method.K - 1]
        with Hooks(self._anatomy, in_bypassed=True) as hooks, self._dropping.hooked():
            hooks.intercept([attention], by_call(self._attend))
            hooks.after(self._anatomy.model, self._over, always=True)
            yield

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The prompt; without a cache, the prompt once more with what was generated."""
        self._enter(inputs, 0, not self._dropping.has_chosen)
        return same_prompt(self._anatomy, self._given, inputs)

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """A generated token stands where it does in the first pass."""
        if repeats * self._layout.batch != self._rows:
            self._rows = repeats * self._layout.batch
            self._dropping.repeat(repeats)
        self._enter(inputs, int(cache_of(inputs).get_seq_length(self._anatomy.attention_layers[0])), False)
        return inputs

    def _enter(self, inputs: Mapping[str, Any], offset: int, is_start: bool) -> None:
        length = int(inputs["input_ids"].shape[1])
        step = ForwardPass(0, offset, length, self._layout, is_start, not is_start, inputs["input_ids"], None, inputs)
        self._dropping.begin(step)
        self._step = step

    def _over(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._step is not None:
            self._dropping.end(self._step)
            self._step = None

    def _attend(self, call: AttentionCall) -> None:
        if self._step is not None and self._step.is_start:
            with torch.no_grad():
                self._dropping.read(self._method.K - 1, EditedCall(call), self._step)
