"""AvisC: contrast with the tokens that draw attention at any question (arXiv 2405.17820; confirmed in its code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.attention import EditedCall, ForwardPass, attach, is_bypassed
from sightline.attention.hooks import Hooks
from sightline.attention.late_images import refuse_late_images
from sightline.attention.passes import LayoutSource
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod, contrast
from sightline.methods.generating import check_least, check_share
from sightline.methods.scoring import VISUAL, entering, prompt_layout, require_image
from sightline.methods.second_pass import Change, same_prompt
from sightline.models.anatomy import Anatomy
from sightline.models.layout import TokenLayout


@register
@dataclass(frozen=True)
class AvisC(ContrastMethod):
    """Contrasts with the answer to the "blind" tokens alone: those that the prompt's last row attends to most.

        s_l = sum over image tokens of a_l[last, j]      layers: the fewest of the largest s that hold the share gamma
        m_j = mean over these layers of a_l[last, j]     blind: m_j >= mean(m) + lam std(m)
        l' = (1 + alpha) l - alpha l_blind,     -inf where p < beta max p

    a: [heads averaged, keys], attention weights of the first pass; l_blind: the second pass, in which the embeddings of
    all other image tokens are zeros. Each sample has its own layers and tokens, found on the prompt once for the whole
    answer. alpha is 1 in the public scripts for POPE and MME, 2.5 in that for AMBER. The second pass runs the untouched
    model. It acts in `generate`. alpha = 0 changes nothing. Controls: `cut_off:beta=0.1`, `yes_bias` for questions of
    yes and no.
    """

    name: ClassVar[str] = "avisc"
    alpha: float = setting(1.0, "weight of the contrast, 0 (none) or more")
    beta: float = setting(0.1, "tokens below this share of the likeliest one's probability are cut off, 0 to 1")
    gamma: float = setting(0.5, "share of the attention to the image that the chosen layers hold, 0 to 1")
    lam: float = setting(1.0, "deviations above the mean from which a token is blind, 0 or more")

    def __post_init__(self) -> None:
        check_least(self.name, 0, alpha=self.alpha, lam=self.lam)
        check_share(self.name, beta=self.beta, gamma=self.gamma)

    @property
    def has_contrast(self) -> bool:
        """Whether the second pass counts."""
        return bool(self.alpha)

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """The same prompt with only its blind tokens."""
        return _Blind(self, anatomy, layout, given)

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        return contrast(first, second, self.alpha, self.beta)

    def blind(self, weights: Float[Tensor, "layers tokens"]) -> Bool[Tensor, " tokens"]:
        """Which of one sample's image tokens are blind."""
        total = weights.sum(1)
        order = total.argsort(descending=True)
        held = (total[order] / total.sum()).cumsum(0)
        mean = weights[order[: int((held < self.gamma).sum()) + 1]].mean(0)
        # A single token has no deviation, and is blind.
        return mean >= mean.mean() + (self.lam * mean.std() if len(mean) > 1 else 0.0)


class _Blind:
    """Reads the first pass over the prompt, and silences the other tokens in the second."""

    def __init__(self, method: AvisC, anatomy: Anatomy, source: LayoutSource | None, given: Mapping[str, Any]) -> None:
        refuse_late_images(method.name, anatomy)
        self._method, self._anatomy, self._source, self._given = method, anatomy, source, given
        self._layout: TokenLayout = prompt_layout(anatomy, source, given)
        require_image(method.name, self._layout)
        self._rows: dict[int, Tensor] = {}
        self._silent: Tensor | None = None
        self._is_next = False

    @contextmanager
    def acting(self) -> Iterator[None]:
        """For one `generate`."""
        with Hooks(self._anatomy, in_bypassed=True, keeps_rows=True) as hooks:
            hooks.before(self._anatomy.decoder, self._silence)
            with attach(self._anatomy, reader=self, layout=self._source):
                yield

    def begin(self, step: ForwardPass) -> None:
        """A pass begins."""

    def end(self, step: ForwardPass) -> None:
        """A pass is over."""

    def read(self, layer: int, attention: EditedCall, step: ForwardPass) -> None:
        """The last row of the prompt, in every layer."""
        if step.is_start:
            last = torch.tensor([attention.call.queries - 1])
            self._rows[layer] = attention.row_weights(last).mean(1)[:, 0].cpu()

    def at_start(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The prompt, of which all but blind tokens are silent from here on."""
        if self._silent is None:
            visual, copies = self._layout.mask(*VISUAL), len(next(iter(self._rows.values()))) // self._layout.batch
            silent = visual.clone()
            weights = torch.stack([self._rows[layer][::copies] for layer in sorted(self._rows)], 1)
            for sample, image in enumerate(visual):
                places = image.nonzero()[:, 0]
                if len(places):
                    silent[sample, places] = ~self._method.blind(weights[sample][:, places])
            self._silent = silent
        self._is_next = True
        return same_prompt(self._anatomy, self._given, inputs)

    def at_step(self, inputs: dict[str, Any], repeats: int) -> dict[str, Any]:
        """A generated token stands where it does in the first pass."""
        return inputs

    def _silence(self, module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if not (self._is_next and is_bypassed(self._anatomy)) or self._silent is None:
            return None
        self._is_next = False
        embeds = entering(self._method.name, self._anatomy, kwargs)
        silent = torch.nn.functional.pad(self._silent, (0, embeds.shape[1] - self._silent.shape[1]))
        return args, {**kwargs, "inputs_embeds": embeds.masked_fill(silent.to(embeds.device)[..., None], 0.0)}
