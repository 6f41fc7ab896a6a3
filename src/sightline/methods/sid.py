"""SID: self-introspective decoding (arXiv 2408.02032, ICLR 2025; confirmed in its public code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.attention import EditedCall, is_bypassed
from sightline.attention.call import AttentionCall, by_call
from sightline.attention.hooks import Hooks
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError, ModelError
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.generating import check_least, check_share
from sightline.methods.pruning import best_tokens, check_keep, kept_count, warn_of_all
from sightline.methods.scoring import VISUAL, check_range, prompt_layout, require_image
from sightline.methods.second_pass import Change, same_prompt
from sightline.models.anatomy import Anatomy
from sightline.models.transformers_api.cache import cache_of


@register
@dataclass(frozen=True)
class SID(ContrastMethod):
    """Contrasts with a pass that sees, behind its first layers, only the image tokens that are least attended to.

        seen from layer K on: the `keep` image tokens of the lowest mean over heads of a[last, j] in layer K - 1
        l' = (1 + alpha) l - alpha l_least,     -inf where p < beta max p

    a: attention weights of the second pass itself, in the last row of each of its forwards: the tokens are chosen on
    the prompt, for all its rows, and anew with every generated token, for its row. l, l_least: [rows, vocabulary],
    log-probabilities. The second pass keeps all tokens in its cache and runs without other methods. It acts in
    `generate`. alpha = 0 changes nothing. Layers are counted from 0. Controls: `cut_off:beta=0.1`, `yes_bias`: arXiv
    2504.10020 finds the gain on POPE to be theirs.

    alpha is what the public code runs with, whose command offers 1 and hands it to nothing. Greedily, that code cuts
    nothing off: beta = 0.
    """

    name: ClassVar[str] = "sid"
    alpha: float = setting(0.5, "weight of the contrast, 0 (none) or more")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    K: int = setting(2, "first layer of the second pass that sees fewer tokens, 1 to the model's last")
    keep: float = setting(100.0, "image tokens that it sees: a share up to 1, or a number above it")

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

    def hidden(
        self, weights: Float[Tensor, "rows keys"], image: Bool[Tensor, "rows keys"]
    ) -> Bool[Tensor, "rows keys"]:
        """The image tokens that are not among the least attended ones."""
        stays = [
            best_tokens(-mine, here, kept_count(int(here.sum()), self.keep))
            for mine, here in zip(weights, image, strict=True)
        ]
        return ~torch.stack(stays)


class _LeastAttended:
    """Hides tokens from the second pass.

    offset: the first position of its forward. hidden: [rows, positions], from its deeper layers; None for none. masks:
    those of its deeper layers by the ones that they were given.
    """

    def __init__(self, method: SID, anatomy: Anatomy, source: LayoutSource | None, given: Mapping[str, Any]) -> None:
        check_range(method.name, method.K, None, anatomy)
        if method.K < 1:
            raise InputError(f"{method.name} chooses by the attention of the layer before, so that K is at least 1.")
        if None in anatomy.attentions[method.K - 1 :]:
            kind = type(anatomy.model).__name__
            raise ModelError(f"{method.name} hides tokens from softmax attention, and layers of {kind} have none.")
        self._method, self._anatomy, self._given = method, anatomy, given
        self._layout = prompt_layout(anatomy, source, given)
        require_image(method.name, self._layout)
        for tokens in self._layout.mask(*VISUAL).sum(1).tolist():
            warn_of_all(f"The second pass of {method.name}", tokens, method.keep)
        self._offset = 0
        self._hidden: Tensor | None = None
        self._masks: dict[tuple[int, int], tuple[Any, Tensor]] = {}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """For one `generate`."""
        first, *rest = (each for each in self._anatomy.attentions[self._method.K - 1 :] if each is not None)
        with Hooks(self._anatomy, in_bypassed=True) as hooks:
            hooks.intercept([first], by_call(self._choose))
            hooks.intercept(rest, by_call(self._hide))
            yield

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The prompt; without a cache, the prompt once more with what was generated."""
        self._offset = 0
        return same_prompt(self._anatomy, self._given, inputs)

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """A generated token stands where it does in the first pass."""
        self._offset = int(cache_of(inputs).get_seq_length(self._anatomy.attention_layers[0]))
        return inputs

    def _choose(self, call: AttentionCall) -> None:
        """By the last row of the layer before."""
        if not is_bypassed(self._anatomy):
            return
        call = replace(call, offset=self._offset)
        last = torch.tensor([call.queries - 1], device=call.query.device)
        weights = EditedCall(call).row_weights(last).mean(1)[:, 0]
        image = self._layout.mask(*VISUAL).to(weights.device)
        image = image.repeat_interleave(len(weights) // len(image), 0)
        # Generated positions are no image, and keys that a window has let go are attended to by nobody.
        total = call.first_key + call.keys
        image = torch.nn.functional.pad(image, (0, total - image.shape[1]))
        hidden = self._method.hidden(torch.nn.functional.pad(weights, (call.first_key, 0)), image)
        self._hidden, self._masks = hidden if bool(hidden.any()) else None, {}

    def _hide(self, call: AttentionCall) -> Tensor | None:
        """The layer's own attention over what is left."""
        if not is_bypassed(self._anatomy) or self._hidden is None:
            return None
        call = replace(call, offset=self._offset)
        key = id(call.mask), call.first_key
        if key not in self._masks:
            self._masks[key] = call.mask, self._mask(call, self._hidden)
        return replace(call, mask=self._masks[key][1]).run()

    def _mask(self, call: AttentionCall, hidden: Tensor) -> Tensor:
        if call.implementation not in ("sdpa", "eager"):
            raise ModelError(
                f"{self._method.name} hides tokens by a mask, which {call.implementation} attention takes none of: "
                "load the model with sdpa."
            )
        here = hidden[:, call.first_key : call.first_key + call.keys].to(call.query.device)
        plain = call.visible(torch.arange(call.queries, device=call.query.device))
        seen = plain & ~here[:, None, None]
        # Rows of padding may see nothing but what is hidden; nobody reads them.
        return _as_mask(call, torch.where(seen.any(-1, keepdim=True), seen, plain))


def _as_mask(call: AttentionCall, seen: Bool[Tensor, "batch heads queries keys"]) -> Tensor:
    """In the form that the call's function takes: what it adds to scores stays."""
    is_added = isinstance(call.mask, Tensor) and call.mask.is_floating_point()
    if not is_added and call.implementation == "sdpa":
        return seen
    added = call.mask[..., : call.keys] if is_added else torch.zeros((), dtype=call.query.dtype, device=seen.device)
    return torch.where(seen, added, torch.finfo(call.query.dtype).min)
