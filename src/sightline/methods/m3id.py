"""M3ID: multi-modal mutual information decoding (arXiv 2403.14003, CVPR 2024; as run in the code of others)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import expm1, log
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import register, setting
from sightline.methods.contrast import ContrastMethod
from sightline.methods.generating import check_least, check_share, cut_off
from sightline.methods.scoring import prompt_layout
from sightline.methods.second_pass import Change
from sightline.methods.text_only import TextOnly
from sightline.models.anatomy import Anatomy


@register
@dataclass(frozen=True)
class M3ID(ContrastMethod):
    """Contrasts with the prompt without its image, by a weight that grows as the answer does.

        l' = l + (1 - g_t)/g_t (l - l_text),     g_t = exp(-lam t)

    l, l_text: [rows, vocabulary], log-probabilities with and without the image. Two forms are in use:
        code    t = 0 at the first token;  -inf where p < beta max p       (the code of ONLY; that of AvisC: first=1)
        paper   t = 1 at the first token;  only where max p < alpha, else l alone; no cut-off

    t counts the answer's tokens, not the prompt's. The first method of this kind has no public code. With form=code the
    first token is only cut off. The second pass has the image tokens cut out and runs the untouched model. It acts in
    `generate`. lam = 0 changes nothing but the cut-off. Controls: `cut_off:beta=0.1`, and `yes_bias` for questions of
    yes and no.
    """

    name: ClassVar[str] = "m3id"
    lam: float = setting(0.02, "how fast the weight grows with the answer's length, 0 (not) or more")
    beta: float = setting(0.1, "form=code: tokens below this share of the likeliest one's probability are cut off")
    form: Literal["code", "paper"] = setting("code", "code or paper, see above")
    alpha: float = setting(0.3, "form=paper: the contrast acts where the likeliest token is below this, 0 to 1")
    first: int | None = setting(None, "t at the first token; by default 0 for form=code, 1 for form=paper")

    def __post_init__(self) -> None:
        check_least(self.name, 0, lam=self.lam)
        check_share(self.name, beta=self.beta, alpha=self.alpha)
        if self.form not in ("code", "paper"):
            raise InputError(f"form is {self.form} in m3id: give code or paper.")
        if self.first is not None:
            check_least(self.name, 0, first=self.first)

    def change(self, anatomy: Anatomy, model: Any, layout: LayoutSource | None, given: Mapping[str, Any]) -> Change:
        """The prompt without its image."""
        return TextOnly(self.name, prompt_layout(anatomy, layout, given))

    def combine(
        self, first: Float[Tensor, "rows vocabulary"], second: Float[Tensor, "rows vocabulary"], step: int
    ) -> Float[Tensor, "rows vocabulary"]:
        """l' above."""
        image, text = first.log_softmax(-1), second.log_softmax(-1)
        start = int(self.form == "paper") if self.first is None else self.first
        weight = expm1(self.lam * (step + start))
        contrasted = image + weight * (image - text) if weight else image
        if self.form == "code":
            return cut_off(contrasted, image, self.beta)
        unsure = image.amax(-1, keepdim=True) < (log(self.alpha) if self.alpha else -1e9)
        return contrasted.where(unsure, image)
