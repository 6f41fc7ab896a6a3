"""GLSim, the training-free detector of hallucinated objects that grounding scores are held against (arXiv 2508.19972).

    global    cos(h_o, h_end)                          h_end: the last token of the prompt
    local     mean over the K patches of cos(h_o, h_p)
    GLSim     w global + (1 - w) local

h_o is the state that predicts the object's token, as in the authors' code (deeplearning-wisc/glsim), and not the state
at its own position. The K patches are those whose states, read through the language model's head (logit lens), give the
token the largest probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.errors import InputError

SHARE = 32 / 576
"""Of the image's patches: 32 of LLaVA-1.5's 576."""


@dataclass(frozen=True)
class GLSim:
    """GLSim's settings.

    Attributes:
        weight: w, of the global part, 0 to 1.
        patches: K, 1 and up; None takes the same share of the image as 32 of 576, at least 1.
        text_layer, image_layer: which hidden states are compared, as indices into those that Transformers returns (the
            embeddings first, the final norm's output last). The authors' 31 and 32 of 0 to 32 are -2 and -1.

    In the authors' code the global part compares the prompt at `text_layer` with the object at `image_layer`, and the
    local part the object at `text_layer` with the patches at `image_layer`; so does this.
    """

    weight: float = 0.6
    patches: int | None = None
    text_layer: int = -2
    image_layer: int = -1

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise InputError(f"weight is {self.weight} in GLSim: give the share of the global part, 0 to 1.")
        if self.patches is not None and self.patches < 1:
            raise InputError(f"patches is {self.patches} in GLSim: give how many patches, 1 and up.")

    def count(self, patches: int) -> int:
        """K in an image of so many patches."""
        wanted = round(patches * SHARE) if self.patches is None else self.patches
        return max(1, min(wanted, patches))

    def scores(
        self,
        words: Float[Tensor, "layers words hidden"],
        image: Float[Tensor, "layers patches hidden"],
        end: Float[Tensor, "layers hidden"],
        evidence: Float[Tensor, "words patches"],
    ) -> tuple[Float[Tensor, " words"], Float[Tensor, " words"]]:
        """The global and the local part of each word.

        words: states that predict the words. image: of the patches. end: of the prompt's last token. evidence: the
        probability that each patch gives to each word's token by the logit lens.
        """
        whole = torch.nn.functional.cosine_similarity(words[self.image_layer], end[self.text_layer][None], dim=-1)
        near = nearest_patches(evidence, self.count(int(image.shape[1])))
        patches = torch.nn.functional.normalize(image[self.image_layer], dim=-1)[near]
        mine = torch.nn.functional.normalize(words[self.text_layer], dim=-1)
        return whole, torch.einsum("wd,wkd->wk", mine, patches).mean(1)

    def joined(self, whole: Tensor, local: Tensor) -> Tensor:
        """GLSim of its two parts."""
        return self.weight * whole + (1 - self.weight) * local


def nearest_patches(evidence: Float[Tensor, "words patches"], count: int) -> Int[Tensor, "words count"]:
    """The patches that speak most for each word."""
    return evidence.topk(count, dim=1).indices
