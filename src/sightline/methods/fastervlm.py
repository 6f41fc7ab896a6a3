"""FasterVLM: keep the image tokens that the vision tower's class token attends to (arXiv 2412.01818; confirmed)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.attention import attach
from sightline.attention.passes import LayoutSource
from sightline.errors import InputError
from sightline.methods.base import Method, anatomy_and_layout, register, setting
from sightline.methods.shorten import PromptPruning
from sightline.methods.tower import TowerChoice
from sightline.models.layout import Modality, TokenLayout


@register
@dataclass(frozen=True)
class FasterVLM(Method):
    """Drops a share r of the image tokens before the language model, which then runs and caches that much less.

        score_j = mean over heads of a[CLS, j]      a: the vision tower's attention in its layer -2
        kept    = the round(N (1 - r)) patches of the highest score, in their own order

    N: patches of one image (of one tile, where an image is cut into tiles, as in the public code): 576 leave 144, 58
    and 29 at r = 0.75, 0.9 and 0.95. One patch always stays; newline and break tokens between rows of patches do too.
    The token layout follows, so that a probe reports the image tokens that are left. Logits of a plain forward pass
    are those of the positions that are left.

    Beyond the paper, and with a warning: a tower without a class token scores a patch by the attention it receives
    from all patches on average; where patches are merged before the language model a token has the mean score of its
    patches. Positions are counted anew as in the public code; where they have three dimensions (Qwen) they are kept,
    as they say where in the image a token lies. This is the remedy of arXiv 2508.10552.
    """

    name: ClassVar[str] = "fastervlm"
    r: float = setting(0.9, "share of the image tokens dropped, 0 (none) to below 1")
    layer: int = setting(-2, "layer of the vision tower whose attention tells; -1 is its last")

    def __post_init__(self) -> None:
        if not 0 <= self.r < 1:
            raise InputError(f"r is {self.r} in fastervlm: give a share from 0 to below 1.")

    @contextmanager
    def on(self, model: Any, layout: LayoutSource | None = None) -> Iterator[None]:
        """Act on every prompt that runs inside.

        Raises:
            InputError: for a layer the tower has not, for a prompt without an image, and for training.
            ModelError: for a model whose tower or image tokens this does not fit.
        """
        anatomy, source = anatomy_and_layout(model, layout)
        tower = TowerChoice(self.name, anatomy, self.layer, self.pick)
        tower.warn_without_class()

        def choose(prompt: TokenLayout) -> Bool[Tensor, "batch positions"]:
            image = prompt.mask(Modality.IMAGE)
            if not bool(image.any()):
                raise InputError(f"{self.name} drops image tokens, and this prompt has none: give an image.")
            if bool(prompt.mask(Modality.VIDEO).any()):
                raise InputError(f"{self.name} drops tokens of pictures, not of videos: give images.")
            return tower.spread(image)

        shortener = PromptPruning(self.name, anatomy, choose, needs_whole=True)
        with tower.watching(), attach(anatomy, shortener=shortener, layout=source):
            yield

    def pick(self, scores: Float[Tensor, " tokens"]) -> Bool[Tensor, " tokens"]:
        """Which tokens of one crop stay."""
        count = max(1, round(len(scores) * (1 - self.r)))
        return torch.zeros(len(scores), dtype=torch.bool).index_fill_(0, scores.topk(count).indices.cpu(), True)
